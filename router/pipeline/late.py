"""Late binding: a request whose model has no room now waits for it before the engine, unrendered, and is decided for
anew when its turn comes (`gate.lines`).

Where the model that the rule chooses is one to wait for, and the request says no objective of its own, members that are
predicted to be free only after `most_wait_s` are passed over, as with such an objective: under overload the smaller
models are chosen before anybody is refused.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from router.dialects.priority import priority_of
from router.errors import Overloaded, RouterError
from router.gate.gate import Gate
from router.gate.lines import Waits
from router.gate.promises import name_of
from router.observe.metrics import BATCH
from router.pipeline.request import Request
from router.policy import Settings
from router.pool import PoolMember
from router.pool.laned import Laned
from router.types import Decision, Kind

#: What takes no sequence of an engine.
_AT_ONCE: Final[frozenset[Kind]] = frozenset({
    "count_tokens", "tokenize", "detokenize", "stored", "input_tokens", "tokenizer_info",
    "render_chat", "render_completions", "render_messages", "render_responses",
})  # fmt: skip


class Late:
    """Of one router. All calls come from one event loop's thread."""

    def __init__(
        self,
        gate: Gate,
        engine_of: Callable[[Decision], PoolMember],
        model_of: Callable[[object], int],
        begin: Callable[[Request], None],
        most_wait_s: float,
    ) -> None:
        """`engine_of`: that a decision chose; `model_of`: an engine's, as decisions count them, below 0 where it is
        none of the pool's. `begin`: decides for a request whose turn came."""
        self._gate = gate
        self._engine_of = engine_of
        self._model_of = model_of
        self._begin = begin
        self._most_wait_s = most_wait_s

    def choose(self, request: Request, decide: Callable[[Settings], Decision]) -> Decision | None:
        """What `decide` chooses by the request's settings, where that has room. None: the request waits. Raises what
        `decide` raises, and `Overloaded` where it may wait for nobody."""
        lines, settings = self._gate.lines, request.settings
        decision = self._first_choice(request, decide) if lines.barred is None else None
        tried = [lines.barred] if isinstance(lines.barred, Laned) else []
        while True:
            if decision is None:
                try:
                    decision = decide(self._without(tried, settings))
                except RouterError:
                    raise lines.refusal(tried[0], self._waits(request)) from None
            member = self._engine_of(decision)
            if not isinstance(member, Laned) or self._admits(request, member):
                return decision
            if lines.wait(member, self._waits(request)):
                return None
            tried.append(member)
            decision = None

    def _first_choice(self, request: Request, decide: Callable[[Settings], Decision]) -> Decision:
        """By the rule; where that is one to wait for, by the rule among those for whom that takes not too long."""
        settings = request.settings
        decision = decide(settings)
        if settings.rule == "pinned" or settings.slo_ttft_s is not None or request.query.slo_ttft_s is not None:
            return decision
        member = self._engine_of(decision)
        if not isinstance(member, Laned) or self._admits(request, member):
            return decision
        return decide(msgspec.structs.replace(settings, slo_ttft_s=self._most_wait_s))

    def _without(self, tried: Sequence[object], settings: Settings) -> Settings:
        """Of several engines of a model the best one was tried."""
        models = frozenset(model for engine in tried if (model := self._model_of(engine)) >= 0)
        return msgspec.structs.replace(settings, excluded=settings.excluded | models)

    def hold(self, before: Sequence[PoolMember], pool: Sequence[PoolMember]) -> None:
        """The engines are to be those of `pool`: who waits for one that leaves, by its name, goes to it now."""
        for member in before:
            if isinstance(member, Laned) and member not in pool:
                self._gate.lines.release(member)

    # Within

    def _admits(self, request: Request, member: Laned) -> bool:
        return self._gate.lines.admits(member) or request.query.kind in _AT_ONCE

    def _waits(self, request: Request) -> Waits:
        """Raises `Overloaded` for a line of a batch, which goes on waiting where it came from."""
        query, permit, body = request.query, request.permit, request.body
        if query.task == BATCH or permit is None:
            raise Overloaded("no model that may answer has room now", retry_after_s=1.0)
        permit.key_id, permit.priority = query.key_id, query.priority or permit.priority or priority_of(body)
        if request.phase != "queued":
            request.go("queued")
            if query.deadline_s is not None:
                permit.deadline_s = permit.entered_s + query.deadline_s
        pinned = request.settings.rule == "pinned"
        return Waits(permit, name_of(query.key_id, body), lambda: self._begin(request), request.refuse, pinned=pinned)
