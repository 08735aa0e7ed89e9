"""What requests need of the pipeline: their settings, their scores, the member that each goes to, first and after a
failure.

For the pool that there is at the moment, which may change. Knows neither how members live nor where requests come from.
"""

import logging
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import cast

import msgspec

from router.config import Limits
from router.errors import EngineFailed, RouterError
from router.gate.gate import Gate
from router.native.fleet import Fleet, Picks
from router.native.policy import Numbers
from router.native.request import BaseRequest
from router.native.steering import Steering
from router.observe.ledger import Ledger
from router.observe.metrics import Metrics
from router.pipeline import ruling
from router.pipeline.decider import Decider
from router.pipeline.elsewhere import score_elsewhere
from router.pipeline.holders import Holders
from router.pipeline.late import Late
from router.pipeline.leg import Leg, not_again
from router.pipeline.legs.choosing import Choosing
from router.pipeline.request import Request
from router.pipeline.threads import LARGE_BODY_BYTES, Threads
from router.pipeline.whole import WHOLE, settled
from router.policy import Settings
from router.pool import PoolMember
from router.pool.base import Failure
from router.pool.laned import Laned
from router.pool.replicas import engines_of
from router.types import MEMBER_ROUTES, Decision, Query, Ruled, Scores, Snapshot

log = logging.getLogger("headgate.pipeline")


class PoolDesk:
    """Implements `request.Desk`."""

    def __init__(self, decider: Decider, metrics: Metrics, ledger: Ledger, gate: Gate, limits: Limits) -> None:
        self.pool: tuple[PoolMember, ...] = ()  #: one a model
        self.fleet: Fleet | None = None  #: its engines; None: a member is of a kind that shows no lane
        self.edition = 0  #: of the pool: another number after each change of its members
        self.closed = False  #: nothing is tried again
        self.threads = Threads()
        self.legs = Choosing(self, metrics, decider)
        self.steering: Steering | None = None  #: is told of each decision; None: nobody asks
        self._decider = decider
        self._metrics = metrics
        self._ledger = ledger
        self._holders = Holders(lambda: self.pool)
        self._picks: Picks | None = None  #: of the decision made last
        #: No model is waited for longer, where another one is there sooner.
        most_wait_s = min(limits.queue_s, limits.wait_s or limits.queue_s)
        self.late = Late(gate, self.engine_of, self._model_of, self.begin_late, most_wait_s)

    def begin(self, request: Request) -> None:
        """Score, decide, hand over, or wait for room. Raises `RouterError`."""
        self._follow(request)
        begun = time.perf_counter()
        if request.known_scores is not None:  # it has waited since
            self._begin(request, request.known_scores, begun)
            return
        whole, long = request.query.kind in WHOLE, self._decider.reads_long(request.body)
        if whole:
            request.atypical = True  # it has no answer whose length could be learnt
        if whole and not long:
            request.begin(self._decider.score(request.query, request.body))
            return
        if long or len(request.body) > LARGE_BODY_BYTES or self._decider.scoring.slow:
            score_elsewhere(request, self._decider, self.threads, self.pool, self._metrics, self._count)
            request.keep_deadline()
            return
        self._begin(request, self._decider.score(request.query, request.body), begun)

    def _begin(self, request: Request, scores: Scores, begun: float) -> None:
        request.begin(scores)
        if request.decision is not None:
            self._count(request.decision, begun)

    def begin_again(self, request: Request) -> None:
        self.begin(request)

    def _follow(self, request: Request) -> None:
        """What was made for a pool that has changed since is made for the one there is. Raises `RouterError`."""
        if request.edition != self.edition:
            request.known_settings = self.settings_of(request.query)
            request.known_scores = None
            request.edition = self.edition

    def begin_late(self, request: Request) -> None:
        """A request that had to wait: it is accepted, its errors go to the sink."""
        try:
            self.begin(request)
        except RouterError as error:
            request.refuse(error)

    def settings_of(self, query: Query) -> Settings:
        settings, pooling = self._decider.names.settings_of(query), self._decider.pooling
        if pooling or query.kind in MEMBER_ROUTES:
            settings = settled(query, settings, [member.state() for member in self.pool], pooling)
        return self._holders.rule(query, settings) if query.response_id else settings

    def choose(self, request: Request) -> Decision | None:
        assert request.known_scores is not None
        self._heed(request, request.known_scores.ruled)  # first: a rule may pin a model, or say when they are chosen
        if request.course is None:
            request.course = self.legs.begin(request)
        decision = self.late.choose(request, partial(self._decide, request, request.known_scores))
        if decision is not None:
            self._note(request, decision)
        return decision

    def _heed(self, request: Request, ruled: Ruled | None) -> None:
        """What the config's rules say of it. Raises `Forbidden`."""
        if ruled is None:
            return
        request.known_settings = ruling.settled(request.settings, ruled, [m.state().name for m in self.pool])
        if ruled.choice and not request.query.choice:
            request.known_query = msgspec.structs.replace(request.query, choice=ruled.choice)

    def _decide(
        self, request: Request, scores: Scores, settings: Settings, barred: PoolMember | None = None
    ) -> Decision:
        """Raises `RouterError`."""
        legs = request.legs
        decision = self.decide(request.query, scores, settings, legs[0].decision.id if legs else "", barred)
        return decision if legs or request.course is None else self.legs.first(request, settings, decision)

    def _note(self, request: Request, decision: Decision) -> None:
        """It begins a leg."""
        request.legs.append(Leg(decision))
        if self.steering is not None and len(request.legs) == 1 and isinstance(decision.numbers, Numbers):
            decision.numbers.note(self.steering)
        if request.query.own_id:
            self._holders.note(request.query.own_id, self.engine_of(decision))

    def decide(
        self,
        query: Query,
        scores: Scores,
        settings: Settings,
        again: str = "",
        barred: PoolMember | None = None,
        reason: str = "retry",
    ) -> Decision:
        """On the pool as it is now. `barred`: an engine that may not take it while its model has another. `again`,
        `reason`: see `Decider.choose`. Raises `RouterError`."""
        picks = self._picks = self._pick(query, scores, settings, barred)
        pool = Snapshot(tuple([member.state() for member in self.pool])) if picks is None else picks
        return self._decider.choose(query, scores, pool, settings, again=again, reason=reason)

    def _pick(self, query: Query, scores: Scores, settings: Settings, barred: PoolMember | None) -> Picks | None:
        if self.fleet is None:
            return None
        only = self._holders.engine(query, settings)
        lanes = [each.lane if isinstance(each, Laned) else None for each in (barred, only)]
        return self.fleet.pick(query, scores.prompt_tokens, settings, time.monotonic(), *lanes)

    def engine_of(self, decision: Decision) -> PoolMember:
        """The engine that `decision` chose."""
        engines = engines_of(self.pool[decision.member])
        return engines[0 if decision.numbers is None else max(0, decision.numbers.replica)]

    def _model_of(self, engine: object) -> int:
        """Its index; below 0: it is none of the pool's any more."""
        return next((i for i, member in enumerate(self.pool) if any(engine is each for each in engines_of(member))), -1)

    def hand_over(self, decision: Decision) -> tuple[PoolMember, float]:
        """The engine that the last decision chose, which gets the request now, and the share of its prompt that it was
        sent before; below 0: not known."""
        return self.engine_of(decision), -1.0 if self._picks is None else self._picks.note(decision.member)

    def choose_again(self, request: Request, failure: Failure) -> Decision | None:
        if self.closed or not failure.retryable or not self._decider.routing.retry:
            return None
        if request.decision is None or (scores := self.scores_for(request)) is None:
            return None
        tried = next((i for i, member in enumerate(self.pool) if request.held_by in engines_of(member)), -1)
        sibling = tried >= 0 and len(engines_of(self.pool[tried])) > 1 and not failure.context
        excluded = not_again(-1 if sibling else tried, failure, [member.state() for member in self.pool])
        excluded |= request.settings.excluded
        settings = msgspec.structs.replace(request.settings, excluded=excluded, shed_ttft_s=None)  # it was let in
        if settings.rule == "pinned" and settings.pinned in excluded:  # it may be its canary that failed
            return None
        try:
            decision = self._decide(request, scores, settings, request.held_by)
        except RouterError:
            return None
        self._note(request, decision)
        self._metrics.decided(decision.model, "retry", 0.0)
        return decision

    def scores_for(self, request: Request) -> Scores | None:
        """Of one that is decided once more, for the pool that there is by now; None where that cannot be done."""
        if not self._can_follow(request):
            return None
        if request.known_scores is None:
            request.known_scores = self._scores_again(request)
        return request.known_scores

    def _scores_again(self, request: Request) -> Scores | None:
        """Of one whose scores native code has not kept, or another pool's; None where they take milliseconds."""
        slow = self._decider.scoring.slow and request.query.kind not in WHOLE
        return None if slow else self._decider.score(request.query, request.body)

    def _can_follow(self, request: Request) -> bool:
        """Whether it can be decided again, for the pool that there is by now."""
        if request.edition == self.edition:
            return True
        if request.numbers is not None and not request.query.turns:  # its body cannot be read in Python
            return False
        try:
            self._follow(request)
        except RouterError:
            return False
        return True

    def close(self, requests: Iterable[BaseRequest]) -> None:
        """Nothing is tried again, and what is under way ends in an error."""
        self.closed = True
        for request in requests:
            try:
                cast(Request, request).refuse(EngineFailed("the server is shutting down"))
            except Exception:  # the others, and the engines, must still be ended
                log.exception("a request could not be told that the server is shutting down")

    def acknowledge(self, act: Callable[[], None]) -> None:
        if self._ledger.holds:
            self._ledger.hold(act)
        else:
            act()

    def _count(self, decision: Decision, begun: float) -> None:
        self._metrics.decided(decision.model, decision.reason.partition(";")[0], time.perf_counter() - begun)
