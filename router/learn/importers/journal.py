"""A journal: records of requests, and what clients said of the answers. A record without feedback is no outcome.

The lines are `router.observe.journal`'s, of any version; feedback may stand in a later file than its request.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from router.learn.importers import cells
from router.learn.importers.base import Broken, Importer, Options, Outcome, Source
from router.learn.outcomes import prompt_id
from router.learn.records import Record as Row
from router.observe.journal.lines import FeedbackLine, Unknown, migrate
from router.observe.record import Record

LONGEST = 300  #: characters of what is wrong with a line
ABOUT = "Headgate's journal: records of requests, and the scores that clients gave the answers (docs/ledger.md)"
#: One importer for all files: what a later one says may be about a request of an earlier one.
ACROSS_FILES = True
#: What broke off as its process was killed is left out and counted, as every reader of a journal does.
TORN_LINES = True


def takes(source: Source) -> bool:
    return source.values.get("type") in ("request", "decision", "feedback") and "id" in source.values


def importer(source: Source, options: Options) -> Importer:
    return _Journal(options.task)


class _Journal:
    def __init__(self, task: str) -> None:
        self._task = task
        self._open: dict[str, Record] = {}  # no feedback yet
        self._scored: dict[str, Record] = {}
        self._why: Counter[str] = Counter()

    def rows(self, record: Row) -> Iterable[Outcome]:
        try:
            line = migrate(record.values)
        except Unknown as error:
            self._why[f"a line of another kind: {str(error)[:LONGEST]}"] += 1
            return
        except msgspec.ValidationError as error:
            raise Broken(f"expected a line of the journal: {str(error)[:LONGEST]}") from error
        if isinstance(line, FeedbackLine):
            yield from self._said(line)
        else:
            self._ended(line)

    def left_out(self) -> Mapping[str, int]:
        return dict(self._why) | ({"a decision without feedback": len(self._open)} if self._open else {})

    def _ended(self, line: Record) -> None:
        for key in ("completion_tokens", "cost_usd"):
            cells.measure({key: getattr(line, key)}, key)
        if not _prompt(line):
            self._why["a decision whose prompt was not kept"] += 1
        elif line.end != "finish":
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

    def _outcome(self, line: Record, score: float) -> Outcome:
        prompt = _prompt(line)
        own = prompt_id(prompt)
        return Outcome(
            prompt_id=own, group=line.session_id or own, task=self._task or line.task, prompt=prompt, model=line.model,
            score=score, output_tokens=line.completion_tokens or None, cost_usd=line.cost_usd,
        )  # fmt: skip


def _prompt(line: Record) -> str:
    """The texts of the conversation, the last one last. Empty where none was kept."""
    texts = [turn.text for turn in line.turns or ()]
    return "\n\n".join(text for text in texts if text.strip())
