"""A journal: records of requests, and what clients said of the answers, scores and preferences; the last word counts.
A record without feedback is no outcome.

The lines are `router.observe.journal`'s, of any version; feedback may stand in a later file than its request.
"""

from collections import Counter
from collections.abc import Iterable, Mapping

import msgspec

from router.learn.data.importers import cells
from router.learn.data.importers.base import Battle, Broken, Importer, Options, Outcome, Source
from router.learn.data.outcomes import prompt_id
from router.learn.data.records import Record as Row
from router.observe.journal.lines import FeedbackLine, Unknown, migrate
from router.observe.record import Record

LONGEST = 300  #: characters of what is wrong with a line
ABOUT = "Headgate's journal: records of requests, and what clients said of the answers (docs/ledger.md)"
#: One importer for all files: what a later one says may be about a request of an earlier one.
ACROSS_FILES = True
#: What broke off as its process was killed is left out and counted, as every reader of a journal does.
TORN_LINES = True


def takes(source: Source) -> bool:
    return source.values.get("type") in ("request", "decision", "feedback") and "id" in source.values


def importer(source: Source, options: Options) -> Importer:
    return _Journal(options)


class _Said:
    """What was said of one answer last."""

    def __init__(self, line: Record) -> None:
        self.line = line
        self.score: float | None = None
        self.preference: FeedbackLine | None = None

    def take(self, said: FeedbackLine) -> None:
        if said.score is not None:
            self.score = said.score
        if said.better:
            self.preference = said


class _Journal:
    """All rows come at the end: what is said of an answer may be taken back in any later line."""

    def __init__(self, options: Options) -> None:
        self._task, self._scores = options.task, options.scores
        self._open: dict[str, Record] = {}  # no feedback yet
        self._said: dict[str, _Said] = {}
        self._why: Counter[str] = Counter()

    def rows(self, record: Row) -> Iterable[Outcome]:
        try:
            line = migrate(record.values)
        except Unknown as error:
            self._why[f"a line of another kind: {str(error)[:LONGEST]}"] += 1
            return ()
        except msgspec.ValidationError as error:
            raise Broken(f"expected a line of the journal: {str(error)[:LONGEST]}") from error
        if isinstance(line, FeedbackLine):
            self._hear(line)
        else:
            self._ended(line)
        return ()

    def rest(self) -> Iterable[Outcome | Battle]:
        """Outcomes of the scores; of preferences too where they are asked for, or else battles where no score is."""
        scored = any(said.score is not None for said in self._said.values())
        for said in self._said.values():
            if said.score is not None:
                yield self._outcome(said.line, said.line.model, said.score)
            if said.preference is None:
                continue
            if self._scores:
                yield from self._outcomes(said, said.preference)
            elif not scored:
                yield self._battle(said.line, said.preference)
            else:
                self._why["a preference beside scores (--as-scores takes both)"] += 1

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

    def _hear(self, line: FeedbackLine) -> None:
        if line.score is not None and not 0 <= line.score <= 1:
            raise Broken(f"score: expected a number from 0 to 1, got {line.score}")
        if line.score is None and not (line.better and line.worse and line.better != line.worse):
            raise Broken("score: expected a number from 0 to 1, or two models as `better` and `worse`, got none")
        found = self._open.pop(line.id, None)
        if found is not None:
            self._said[line.id] = _Said(found)
        elif line.id not in self._said:
            self._why["feedback on no decision above that could be used"] += 1
            return
        self._said[line.id].take(line)

    def _outcomes(self, said: _Said, preference: FeedbackLine) -> Iterable[Outcome]:
        """A preference as scores, as of other battles; the answer's own score stands where there is one."""
        won = 0.5 if preference.tie else 1.0
        for model, score in ((preference.better, won), (preference.worse, 1 - won)):
            if said.score is None or model != said.line.model:
                yield self._outcome(said.line, model, score)

    def _outcome(self, line: Record, model: str, score: float) -> Outcome:
        prompt = _prompt(line)
        own, answered = prompt_id(prompt), model == line.model
        return Outcome(
            prompt_id=own, group=line.session_id or own, task=self._task or line.task, prompt=prompt, model=model,
            score=score, output_tokens=(line.completion_tokens or None) if answered else None,
            cost_usd=line.cost_usd if answered else None,
        )  # fmt: skip

    def _battle(self, line: Record, preference: FeedbackLine) -> Battle:
        prompt = _prompt(line)
        own = prompt_id(prompt)
        return Battle(
            prompt_id=own, group=line.session_id or own, task=self._task or line.task, prompt=prompt,
            model_a=preference.better, model_b=preference.worse, winner="tie" if preference.tie else "a",
        )  # fmt: skip


def _prompt(line: Record) -> str:
    """The texts of the conversation, the last one last. Empty where none was kept."""
    texts = [turn.text for turn in line.turns or ()]
    return "\n\n".join(text for text in texts if text.strip())
