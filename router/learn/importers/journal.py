"""Lines of decisions and of what clients said of the answers. A decision without feedback is no outcome.

The line format is `router.observe.journal`'s. The server does not write it yet; a program beside it may.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from router.learn.importers import cells
from router.learn.importers.base import Broken, Importer, Options, Outcome, Source
from router.learn.outcomes import prompt_id
from router.learn.records import Record
from router.observe.journal import DecisionLine, FeedbackLine, Line

LONGEST = 300  #: characters of what is wrong with a line
ABOUT = "lines of decisions and of the scores that their answers got (docs/data.md; the server writes none yet)"


def takes(source: Source) -> bool:
    return source.values.get("type") in ("decision", "feedback") and "id" in source.values


def importer(source: Source, options: Options) -> Importer:
    return _Journal(options.task)


class _Journal:
    def __init__(self, task: str) -> None:
        self._task = task
        self._open: dict[str, DecisionLine] = {}  # no feedback yet
        self._scored: dict[str, DecisionLine] = {}
        self._why: Counter[str] = Counter()

    def rows(self, record: Record) -> Iterable[Outcome]:
        try:
            line = msgspec.convert(record.values, Line)
        except msgspec.ValidationError as error:
            raise Broken(f"expected a line of the journal: {str(error)[:LONGEST]}") from error
        if isinstance(line, DecisionLine):
            self._decided(line)
        else:
            yield from self._said(line)

    def left_out(self) -> Mapping[str, int]:
        return dict(self._why) | ({"a decision without feedback": len(self._open)} if self._open else {})

    def _decided(self, line: DecisionLine) -> None:
        for key in ("completion_tokens", "cost_usd"):
            cells.measure({key: getattr(line, key)}, key)
        if line.prompt is None or not line.prompt.strip():
            self._why["a decision whose prompt was not kept"] += 1
        elif line.status != "finish":
            self._why["an answer that did not finish"] += 1
        else:
            self._open[line.id] = line

    def _said(self, line: FeedbackLine) -> Iterable[Outcome]:
        if not 0 <= line.score <= 1:
            raise Broken(f"score: expected a number from 0 to 1, got {line.score}")
        found = self._open.pop(line.id, None) or self._scored.get(line.id)
        if found is None:
            self._why["feedback on no decision above that could be used"] += 1
            return
        self._scored[line.id] = found
        yield self._outcome(found, line.score)

    def _outcome(self, line: DecisionLine, score: float) -> Outcome:
        assert line.prompt is not None
        own = prompt_id(line.prompt)
        return Outcome(
            prompt_id=own, group=line.group or own, task=self._task or line.task, prompt=line.prompt, model=line.model,
            score=score, output_tokens=line.completion_tokens or None, cost_usd=line.cost_usd,
        )  # fmt: skip
