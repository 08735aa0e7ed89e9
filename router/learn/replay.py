"""The decisions of a journal made again by another config, by the policy that serves: which change, and what that is
worth. Offline: members are taken as they were, scores too unless they are asked for anew.

A record's decision is its first one; retries are not replayed. Models that the config lacks are passed over; those that
the record lacks cannot be chosen.
"""

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from router.config import Config, Member, model_name
from router.config import models as models_of
from router.errors import ConfigError, RouterError
from router.heads.base import JudgedHead
from router.native.policy import numbers_of
from router.observe.journal import Line
from router.observe.record import Record
from router.pipeline.decider import Decider
from router.policy import Settings, decide_again
from router.pool.load import usd_per_s
from router.types import DecisionNumbers, Number, Query, Turn

_MOST_IDS = 100_000  #: of changed decisions


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Decisions for one model that are now for another. Sums over them: quality points, USD."""

    before: str
    after: str
    decisions: int
    quality: float  #: gained
    cost_usd: float  #: added


class Changed(msgspec.Struct, frozen=True, kw_only=True):
    """One decision."""

    id: str
    before: str
    after: str


class Replayed(msgspec.Struct, frozen=True, kw_only=True):
    """Predicted quality and cost are sums over `decisions`, each of the model that was chosen."""

    decisions: int  #: made again
    alike: int  #: for the same model
    quality_before: float
    quality_after: float
    cost_usd_before: float
    cost_usd_after: float
    changes: tuple[Change, ...]  #: the most frequent first
    refused: dict[str, int]  #: that no model could serve now, by the error's code
    undecidable: dict[str, int]  #: records that do not tell enough, by reason
    scores: str  #: recorded, or the checkpoint that was asked anew
    prices: str  #: recorded, or config
    not_in_config: tuple[str, ...]  #: models of the journal, passed over
    not_in_journal: tuple[str, ...]  #: models of the config that no decision knew
    changed: tuple[Changed, ...]  #: the first of them, as many as were asked for
    torn: int = 0  #: lines that are not whole
    unknown: int = 0  #: lines of a later version


class Undecidable(Exception):
    """A record that does not tell enough to decide again."""


class Replay:
    """`add` each line of the journal, then `report`."""

    def __init__(self, config: Config, *, score_again: bool = False, reprice: bool = False, ids: int = 0) -> None:
        """`score_again`: by the config's checkpoint, of kept prompts. `reprice`: members cost what the config says.
        `ids`: how many changed decisions to name. Raises `ConfigError`."""
        if score_again and isinstance(Decider(config).scoring.head, JudgedHead):
            raise ConfigError(f"--score-again: {config.routing.checkpoint} asks a model of the pool, which is not here")
        self._config = config
        self._score_again, self._reprice, self._ids = score_again, reprice, min(ids, _MOST_IDS)
        self._pools: dict[tuple[str, ...], _Pool] = {}
        self._changes: dict[tuple[str, str], list[float]] = {}
        self._changed: list[Changed] = []
        self._refused: Counter[str] = Counter()
        self._undecidable: Counter[str] = Counter()
        self._sums = [0.0, 0.0, 0.0, 0.0]
        self._decisions = 0

    def add(self, line: Line) -> None:
        if not isinstance(line, Record):
            return
        try:
            self._decide(line)
        except Undecidable as error:
            self._undecidable[str(error)] += 1
        except RouterError as error:
            self._refused[error.code or error.type] += 1

    def report(self, torn: int = 0, unknown: int = 0) -> Replayed:
        seen = {name for pool in self._pools.values() for name in pool.models}
        changes = [
            Change(before=before, after=after, decisions=int(n), quality=quality, cost_usd=cost)
            for (before, after), (n, quality, cost) in self._changes.items()
        ]
        ours = [member.name for member in models_of(self._config.pool)]
        return Replayed(
            decisions=self._decisions, alike=self._decisions - sum(change.decisions for change in changes),
            quality_before=self._sums[0], quality_after=self._sums[1],
            cost_usd_before=self._sums[2], cost_usd_after=self._sums[3],
            changes=tuple(sorted(changes, key=lambda change: -change.decisions)), refused=dict(self._refused),
            undecidable=dict(self._undecidable),
            scores=self._config.routing.checkpoint if self._score_again else "recorded",
            prices="config" if self._reprice else "recorded",
            not_in_config=tuple(sorted(seen.difference(ours))),
            not_in_journal=tuple(name for name in ours if name not in seen) if seen else (),
            changed=tuple(self._changed), torn=torn, unknown=unknown,
        )  # fmt: skip

    def _decide(self, record: Record) -> None:
        """Raises `Undecidable`, `RouterError`."""
        decided = record.decision
        if decided is None or decided.numbers is None:
            raise Undecidable("its decision's numbers are not in it: none was made, or an early release wrote it")
        pool = self._pool(decided.numbers.models)
        try:
            numbers = numbers_of(self._numbers(record, decided.numbers, pool))
            decided.numbers.models[decided.member]
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise Undecidable(f"its numbers do not fit together: {str(error)[:200]}") from error
        decision = decide_again(numbers, pool.settings(record.asked))
        assert decision.numbers is not None
        quality, cost = (decision.numbers.column(name) for name in ("quality", "cost_usd"))
        before, after = decided.member, decision.member
        pairs = [float(column[at] or 0.0) for column in (quality, cost) for at in (before, after)]
        if not all(map(math.isfinite, pairs)):  # one of these would leave nothing of all sums
            raise Undecidable("its quality or its cost is no finite number")
        self._decisions += 1
        self._sums = [total + one for total, one in zip(self._sums, pairs, strict=True)]
        if before != after:
            change = self._changes.setdefault((decided.model, decision.model), [0, 0.0, 0.0])
            for i, one in enumerate((1, pairs[1] - pairs[0], pairs[3] - pairs[2])):
                change[i] += one
            if len(self._changed) < self._ids:
                self._changed.append(Changed(id=record.id, before=decided.model, after=decision.model))

    def _pool(self, models: tuple[str, ...]) -> "_Pool":
        pool = self._pools.get(models)
        if pool is None:
            pool = self._pools[models] = _Pool(self._config, models)
        if not pool.members:
            raise Undecidable(f"the config has none of its models ({', '.join(models)[:200]})")
        return pool

    def _numbers(self, record: Record, numbers: DecisionNumbers, pool: "_Pool") -> DecisionNumbers:
        if self._score_again:
            if record.turns is None:
                raise Undecidable("its prompt was not kept, and cannot be scored again")
            numbers = msgspec.structs.replace(numbers, scores=pool.scores(record.turns, numbers))
        if self._reprice:
            usd = pool.replaced(numbers.members.get("usd_per_s"), pool.usd_per_s)
            numbers = msgspec.structs.replace(numbers, members=numbers.members | {"usd_per_s": usd})
        return numbers


class _Pool:
    """The config's members that a record knows, and their places in it."""

    def __init__(self, config: Config, models: tuple[str, ...]) -> None:
        """`models`: all of the record's, in its order. Raises `ConfigError`."""
        named = {member.name: member for member in models_of(config.pool)}
        self.models = models
        self.at = [at for at, model in enumerate(models) if model in named]
        self.members: tuple[Member, ...] = tuple(named[models[at]] for at in self.at)
        usd = {model_name(member): each for member, each in zip(config.pool, usd_per_s(config), strict=True)}
        self.usd_per_s = [usd[member.name] for member in self.members]
        self._absent = frozenset(range(len(models))).difference(self.at)
        self._decider = Decider(msgspec.structs.replace(config, pool=self.members)) if self.members else None
        self._settings: dict[str, Settings] = {}

    def settings(self, asked: str) -> Settings:
        """How the config decides for the model that was asked for, in the record's indices. Raises `RouterError`."""
        found = self._settings.get(asked)
        if found is None:
            assert self._decider is not None
            ours = self._decider.names.settings(asked)
            found = msgspec.structs.replace(
                ours, strong=self.at[ours.strong], weak=self.at[ours.weak],
                pinned=self.at[ours.pinned] if ours.pinned >= 0 else -1, excluded=self._absent,
            )  # fmt: skip
            if len(self._settings) < 10_000:
                self._settings[asked] = found
        return found

    def scores(self, turns: Sequence[Turn], numbers: DecisionNumbers) -> dict[str, tuple[Number, ...]]:
        assert self._decider is not None
        quality = self._decider.scoring.score(Query(kind="chat", model="auto", turns=turns)).quality
        return {"quality": self.replaced(numbers.scores.get("quality"), quality)}

    def replaced(self, column: tuple[Number, ...] | None, ours: Sequence[float]) -> tuple[Number, ...]:
        """A record's column with our members' values in it."""
        values = list(column if column is not None else (0.0,) * len(self.models))
        for at, value in zip(self.at, ours, strict=True):
            values[at] = value
        return tuple(values)
