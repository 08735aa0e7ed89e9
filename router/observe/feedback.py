"""What clients say of answers: which answers they may still rate, what makes sense of them, and the journal's line.

The ids of the last answers are held in memory, up to a bound; the oldest leaves first. Knows no HTTP.
"""

import asyncio
import difflib
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence

import msgspec

from router.errors import BadRequest, DeadlineExceeded, NotFound, NotWritten, RouterError
from router.observe.journal import FeedbackLine, Journal
from router.observe.ledger import Ledger
from router.observe.tick import Tick

#: A client waits no longer than this for the disk.
LONGEST_WAIT_S = 5.0

#: Called once, from the event loop: None once the line is in the journal's file, else why that is not sure.
Told = Callable[[RouterError | None], None]


class Said(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The body of `POST /v1/feedback`: a score, a preference, or both."""

    id: str  #: of the decision, as in `x-headgate-decision-id`
    score: float | None = None  #: of the answer, 0 (useless) to 1 (perfect)
    preferred: str | None = None  #: the model that was, or would have been, better
    tie_with: str | None = None  #: the model that was, or would have been, as good
    over: str | None = None  #: the model that `preferred` is better than; by default the one that answered


class Given(msgspec.Struct, frozen=True):
    """What will be written, and of which answer."""

    line: FeedbackLine
    model: str  #: that answered
    again: bool  #: something had been said of it before: this replaces it


class Rateable(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """An answer that may be rated, as one process tells another of it."""

    id: str
    key_id: str
    model: str
    rated: bool


class _Open(msgspec.Struct, frozen=True):
    """What is known of an answer that may be rated; one object for all that are alike."""

    key_id: str
    model: str
    rated: bool


class Feedback:
    """Called from the event loop's thread."""

    def __init__(self, journal: Journal, ledger: Ledger, models: Sequence[str], most_ids: int) -> None:
        """`models`: the pool's names. At most `most_ids` answers can be rated, some 250 bytes each."""
        self._journal = journal
        self._models = tuple(models)
        self._most = most_ids
        self._open: OrderedDict[str, _Open] = OrderedDict()
        self._alike: dict[_Open, _Open] = {}
        self._unrated: dict[tuple[str, str], _Open] = {}  # of them, by key and model
        self._adopted = False
        self._since: deque[str] | None = None  #: ids that have come since `hand_over`; None: it was not called
        self.forgotten = 0  #: ids that left to make room, since the start
        self._end = ledger.subscribe(self._ended)

    @property
    def open_ids(self) -> int:
        return len(self._open)

    def know(self, models: Sequence[str]) -> None:
        """These are in the pool now; those that were may have answered what is rated."""
        self._models = tuple(dict.fromkeys((*models, *self._models)))

    def close(self) -> None:
        self._end()

    def hand_over(self) -> list[Rateable]:
        """All answers that may be rated, the oldest first; called again, those that have ended since."""
        ids = self._open if self._since is None else self._since
        found = [(id, kind) for id in ids if (kind := self._open.get(id)) is not None]
        self._since = deque(maxlen=self._most)
        return [Rateable(id, kind.key_id, kind.model, kind.rated) for id, kind in found]

    def adopt(self, answers: Sequence[Rateable]) -> None:
        """Those of the process that we took over from, which are older than ours; called again, those that have ended
        since."""
        given = {each.id: self._one(_Open(each.key_id, each.model, each.rated)) for each in answers}
        first, then = (self._open, given) if self._adopted else (given, self._open)
        self._open, self._adopted = OrderedDict(first), True
        self._open.update(then)
        self._models = tuple(dict.fromkeys((*self._models, *(each.model for each in answers))))
        self._make_room()

    def read(self, said: Said, key_id: str) -> Given:
        """What `said` means of an answer that `key_id` was given. Raises `BadRequest`, `NotFound`."""
        if said.score is not None and not 0 <= said.score <= 1:
            raise BadRequest(f"`score`: expected a number from 0 to 1, got {said.score:g}", param="score")
        if (said.score, said.preferred, said.tie_with, said.over) == (None, None, None, None):
            raise BadRequest("expected `score`, `preferred` or `tie_with`", param="score")
        for name in ("preferred", "tie_with", "over"):
            self._check_model(name, getattr(said, name))
        found = self._open.get(said.id)
        if found is None or found.key_id != key_id:
            raise NotFound(
                f"no answer with the decision id {said.id[:100]!r} can be rated: it is not the `x-headgate-decision-id`"
                f" of an answer that has ended, belongs to another key, is older than the last {self._most:,} answers,"
                " or the server was started anew since",
                param="id",
                code="unknown_decision",
            )
        better, worse = self._preference(said, found.model)
        tie = said.tie_with is not None
        line = FeedbackLine(id=said.id, score=said.score, better=better, worse=worse, tie=tie, time_s=time.time())
        return Given(line, found.model, found.rated)

    def write(self, given: Given, told: Told) -> None:
        """Put it down, and tell once it is in the file; or after a while that it is not known to be."""
        _Writing(self, given, told).begin(self._journal)

    def written(self, given: Given) -> None:
        found = self._open.get(given.line.id)
        if found is not None and not found.rated:
            self._open[given.line.id] = self._one(msgspec.structs.replace(found, rated=True))

    def _preference(self, said: Said, answered: str) -> tuple[str, str]:
        """The better model and the worse one, of a tie both; empty where none is told. Raises `BadRequest`."""
        first, name = (said.tie_with, "tie_with") if said.preferred is None else (said.preferred, "preferred")
        if said.preferred is not None and said.tie_with is not None:
            raise BadRequest("`tie_with`: expected none beside `preferred`", param="tie_with")
        if said.over is not None and said.preferred is None:
            raise BadRequest("`over`: expected `preferred` beside it", param="over")
        if first is None:
            return "", ""
        second = said.over
        if second is None:
            others = [model for model in self._models if model != first]
            second = others[0] if name == "preferred" and first == answered and len(others) == 1 else answered
        if first == second:
            hint = "`over` names the model that it is better than" if name == "preferred" else "name the other model"
            raise BadRequest(f"`{name}`: expected two different models, got {first!r} twice; {hint}", param=name)
        if answered not in (first, second):
            what = f"expected {answered!r}, which answered, to be one of the two, got {first!r} and {second!r}"
            raise BadRequest(f"`{name}`: {what}", param=name)
        return first, second

    def _check_model(self, name: str, model: str | None) -> None:
        if model is None or model in self._models:
            return
        near = difflib.get_close_matches(model[:200], self._models, n=1, cutoff=0.6)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise BadRequest(f"`{name}`: {hint}expected one of {', '.join(self._models)}; got {model[:200]!r}", param=name)

    def _ended(self, tick: Tick) -> None:
        """Of every answer of which something had come: one that a client stopped can be rated too."""
        opened, unrated = self._open, self._unrated
        for id, model, key_id in tick.answered():
            kind = unrated.get((key_id, model))
            if kind is None:
                kind = unrated[key_id, model] = self._one(_Open(key_id, model, False))
            opened[id] = kind
            if self._since is not None:
                self._since.append(id)
        self._make_room()

    def _make_room(self) -> None:
        while len(self._open) > self._most:
            self._open.popitem(last=False)
            self.forgotten += 1

    def _one(self, kind: _Open) -> _Open:
        return self._alike.setdefault(kind, kind)


class _Writing:
    """One line on its way to the disk; tells once."""

    def __init__(self, feedback: Feedback, given: Given, told: Told) -> None:
        self._feedback = feedback
        self._given = given
        self._told: Told | None = told
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, journal: Journal) -> None:
        self._timer = asyncio.get_running_loop().call_later(LONGEST_WAIT_S, self._late)
        journal.put(self._given.line, self._written)

    def _written(self, written: bool) -> None:
        if written:
            self._feedback.written(self._given)
            self._tell(None)
        else:
            why = "the journal could not take it: nothing was written; send it again"
            self._tell(NotWritten(why, retry_after_s=1.0))

    def _late(self) -> None:
        why = f"the disk did not take it within {LONGEST_WAIT_S:g} s, and may yet; send it again: the last one counts"
        self._tell(DeadlineExceeded(why, code="feedback_late", retry_after_s=1.0))

    def _tell(self, error: RouterError | None) -> None:
        told, self._told = self._told, None
        if self._timer is not None:
            self._timer.cancel()
        if told is not None:
            told(error)
