"""What courses ask of the pool: who could run next, who may go on with a text, on which engine; and that it is counted.

For the pool as it is at the moment.
"""

from typing import Protocol

import msgspec

from router.config import Routing
from router.errors import RouterError
from router.native.request import Requests
from router.observe.metrics import Metrics
from router.observe.record import Why
from router.pipeline.decider import Decider
from router.pipeline.legs.base import Asked, continues
from router.pipeline.legs.course import Course
from router.pipeline.legs.planner import Planner
from router.policy import Settings
from router.pool import PoolMember
from router.pool.base import Failure
from router.pool.replicas import engines_of
from router.types import Decision, Query, Scores


class Desk(Protocol):
    """Of `pipeline.desk`, what is needed here."""

    pool: tuple[PoolMember, ...]
    closed: bool
    edition: int

    def decide(
        self,
        query: Query,
        scores: Scores,
        settings: Settings,
        again: str = "",
        barred: PoolMember | None = None,
        reason: str = "retry",
    ) -> Decision: ...

    def engine_of(self, decision: Decision) -> PoolMember: ...

    def hand_over(self, decision: Decision) -> tuple[PoolMember, float]: ...


class Choosing:
    """Implements `course.Chooser`, for one desk. `planner` None: every request is decided before its answer alone."""

    def __init__(self, desk: Desk, metrics: Metrics, decider: Decider) -> None:
        self._decider = decider
        self.planner: Planner | None = None
        self._continue_lost = True
        self._desk = desk
        self._metrics = metrics

    def follow(self, requests: Requests, routing: Routing, engines: int, planner: Planner | None) -> None:
        """Do as `routing` and its `planner` say, in a pool of so many engines, from now on."""
        self.planner, self._continue_lost = planner, routing.continue_lost
        self._decider.planned = planner is not None and planner.common
        requests.keeps_answers = self._continue_lost and engines > 1

    # For requests

    def begin(self, request: Asked) -> Course | None:
        """Of a request that has its scores, and may have several legs."""
        planner, query = self.planner, request.query
        if planner is None or request.settings.rule != "utility" or (way := planner.way(query)) is None:
            return None
        asked = next((turn.text for turn in reversed(query.turns) if turn.role == "user"), "")
        return Course(request, self, way, asked)

    def first(self, request: Asked, settings: Settings, decision: Decision) -> Decision:
        """Of a request that has a course: by the plan, in the place of today's `decision`. Raises `RouterError`."""
        if self.planner is None:
            return decision
        member = self.planner.first(decision, settings.price)
        if member == decision.member:
            return decision
        pinned = msgspec.structs.replace(settings, rule="pinned", pinned=member)
        scores = request.known_scores
        assert scores is not None
        return self._desk.decide(request.query, scores, pinned, decision.id, None, "plan")

    def rescue(self, request: Asked, failure: Failure) -> Course | None:
        """Of a request that had no course, and failed in the middle of its answer; None: nothing can be done."""
        return Course(request, self, None) if failure.retryable and request.kept is not None else None

    # For courses

    def able(self) -> list[bool]:
        return [continues(member) for member in self._desk.pool]

    def hand_over(self, decision: Decision) -> tuple[PoolMember, float]:
        return self._desk.hand_over(decision)

    def rest(self, request: Asked, run: frozenset[str]) -> Decision | None:
        if request.edition != self._desk.edition:
            return None  # the models that ran may not be those of the pool by now
        excluded = frozenset(i for i, member in enumerate(self._desk.pool) if member.state().name in run)
        return self._decided(request, request.settings, excluded, "cascade")

    def next(self, request: Asked, member: int, why: Why) -> Decision | None:
        settings = msgspec.structs.replace(request.settings, rule="pinned", pinned=member)
        return self._decided(request, settings, frozenset(), why)

    def elsewhere(self, request: Asked, lost: PoolMember | None) -> Decision | None:
        """Another engine of the same model first, which writes on as the first one would have."""
        if not self._continue_lost:
            return None
        pool, settings = self._desk.pool, request.settings
        query = request.query
        if query.choices != 1 or not query.needs <= {"chat", "completions"} or query.adapter or query.response_id:
            return None
        model = next((i for i, member in enumerate(pool) if any(each is lost for each in engines_of(member))), -1)
        if model >= 0 and len(engines_of(pool[model])) > 1 and continues(pool[model]):
            pinned = msgspec.structs.replace(settings, rule="pinned", pinned=model)
            decision = self._decided(request, pinned, frozenset(), "lost", lost)
            if decision is not None and self._desk.engine_of(decision) is not lost:
                return decision
        if settings.rule == "pinned":
            return None
        unable = frozenset(i for i, member in enumerate(pool) if i == model or not continues(member))
        return self._decided(request, settings, unable, "lost")

    def counted(self, what: str, model: str, to: str = "") -> None:
        self._metrics.legs.leg(what, model, to)

    # Within

    def _decided(
        self,
        request: Asked,
        settings: Settings,
        excluded: frozenset[int],
        reason: str,
        barred: PoolMember | None = None,
    ) -> Decision | None:
        """None where nobody can serve. It was let in: it is not shed now."""
        desk = self._desk
        if desk.closed or (scores := request.scores()) is None:
            return None
        if excluded:
            settings = msgspec.structs.replace(settings, excluded=settings.excluded | excluded)
        settings = msgspec.structs.replace(settings, shed_ttft_s=None)
        again = request.legs[0].decision.id
        try:
            return desk.decide(request.query, scores, settings, again, barred, reason)
        except RouterError:
            return None
