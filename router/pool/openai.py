"""A member that is an OpenAI-compatible URL, a running `vllm serve` for example: its readiness, load and breaker.

Knows nothing of scores or policy, nor what an answer looks like (`exchange`). aiohttp is imported late: a pool without
such a member does not pay for it.
"""

import asyncio
import logging
import math
import time
from typing import TYPE_CHECKING

import msgspec

from router import urls
from router.config import Member, Supervision
from router.dialects.events import UpstreamEvents
from router.errors import EngineFailed, EngineStartError, NoEngine
from router.ipc.messages import Done
from router.native.lane import Lane
from router.pool import models
from router.pool.base import Call, Failure, MemberStatus, Work
from router.pool.breaker import Breaker
from router.pool.failure import one_line, refusal_of, status_of
from router.pool.laned import Laned
from router.pool.load import CUT, LoadTracker, without_length
from router.types import MemberState, Timings, Usage

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger("headgate.pool")

_CAPABILITIES = frozenset({"chat", "completions", "tools", "structured", "logprobs", "vision", "responses", "messages"})
_ASK_AGAIN_S = 0.5
#: How often within the longest silence streams are looked at.
_LOOKS = 20
_SHORTEST_LOOK_S = 0.05
#: More than an unknown context is likely to hold: rates are not learnt from an answer that claims so many.
_MANY_TOKENS = 2_000_000


class HttpCall:
    """One request to the URL, and the `Asker` of its exchange."""

    __slots__ = ("_member", "call", "heard_s", "id", "task")

    def __init__(self, member: "OpenAIMember", work: Work, call: Call) -> None:
        self._member = member
        self.call = call
        self.id = member.last_id = member.last_id + 1
        #: monotonic; when the last event of a stream was passed on. A whole answer is silent before its end.
        self.heard_s = time.monotonic() if work.stream else math.inf
        self.task: asyncio.Task[None] | None = None

    @property
    def running(self) -> bool:
        return self._member.calls.get(self.call) is self

    def pass_on(self, data: bytes) -> bool:
        if data and self.running:
            self.heard_s = time.monotonic()
            self.call.chunk(data)
        return self.running

    def answered(self, events: UpstreamEvents, timings: Timings) -> None:
        if events.error:
            self.refused(status_of(events.error), events.error, 1.0)
        elif events.broken:
            self.broke(events.broken)
        else:
            self._member.done(self, events, timings)

    def refused(self, status: int, body: bytes, retry_after_s: float) -> None:
        self._member.refused(self, status, body, retry_after_s)

    def broke(self, why: str) -> None:
        self._member.blame(self, why)

    def failed(self, failure: Failure) -> None:
        self._member.fail(self, failure)


class OpenAIMember(Laned):
    """Implements `PoolMember`. It is ready once its `/v1/models` answers; probing goes on while it does not."""

    def __init__(self, member: Member, supervision: Supervision, *, gpu_share: float) -> None:
        self.name = self.model = member.name
        self.last_error = ""
        self._model = member.model or member.name
        self._member = msgspec.structs.replace(member, name=member.replaces or member.name)  # whose name answers carry
        self._supervision = supervision
        self._url = urls.parse(member.url)
        self._load = LoadTracker(member, gpu_share)
        self.lane = Lane(self._load, self._load.usd_per_s)  #: for native decisions
        self.lane.framed = False
        self.lane.owner = self
        capabilities = _CAPABILITIES if member.capabilities is None else frozenset(member.capabilities)
        self._described(capabilities, member.context_tokens)
        self._breaker = Breaker(supervision.breaker_failures, supervision.breaker_open_s, self.lane)
        self._heard_s = 0.0  # monotonic; of the last whole answer
        self._loading = False  # it answers, but not yet with models
        self.calls: dict[Call, HttpCall] = {}  #: under way
        self.last_id = 0  #: of a call
        self._tasks: set[asyncio.Task[None]] = set()  # of those, and of answers whose connection is being read empty
        self._session: aiohttp.ClientSession | None = None
        self._watching: tuple[asyncio.Task[None], ...] = ()

    # PoolMember

    def submit(self, work: Work, call: Call) -> None:
        if self.phase != "ready" or self._session is None:
            raise NoEngine(f"model {self.name!r} is not available now ({self.phase})", retry_after_s=1.0)
        if work.continue_text or work.continued is not None or work.warm:
            raise NoEngine(f"model {self.name!r} is a URL, and cannot go on with an answer that another one began")
        asked = self.calls[call] = HttpCall(self, work, call)
        self._load.submitted(work.prompt_tokens, asked.id, -1.0, *work.length)
        if self._breaker.state != "closed":
            self._breaker.submitted(time.monotonic())
        asked.task = asyncio.get_running_loop().create_task(self._answer(asked, work, self._session))
        self._tasks.add(asked.task)
        asked.task.add_done_callback(self._tasks.discard)

    def abort(self, call: Call) -> None:
        asked = self.calls.get(call)
        if asked is not None and self.forget(asked) and asked.task is not None:
            asked.task.cancel()

    def state(self) -> MemberState:
        breaker = self._breaker
        open = breaker.state != "closed" and breaker.is_open(time.monotonic())
        return self._load.state(ready=self.phase == "ready", breaker_open=open)

    def status(self) -> MemberStatus:
        return MemberStatus(
            name=self.name,
            kind="openai",
            phase=self.phase,
            state=self.state(),
            last_error=self.last_error,
            engine_version=self._url.shown,
            in_flight=len(self.calls),
            usd_per_hour=round(self._load.usd_per_s * 3600.0, 6),
        )

    async def start(self) -> None:
        from router.pool.connection import open_session

        self.phase = "starting"
        headers = {"content-type": "application/json"}
        if self._member.api_key:
            headers["authorization"] = f"Bearer {self._member.api_key}"
        elif self._url.authorization:
            headers["authorization"] = self._url.authorization
        self._session = open_session(headers, self._member.connect_timeout_s)
        why = await self._loaded(time.monotonic() + self._supervision.start_timeout_s)
        if why:
            self.last_error = why
            self.phase = "failed"
            await self._close()
            raise EngineStartError(self.name, why)
        self.phase = "ready"
        self._watching = (asyncio.create_task(self._keep_probing()), asyncio.create_task(self._keep_listening()))

    async def stop(self) -> None:
        self.phase = "stopped"
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        self._watching = ()
        calls = tuple(self.calls.values())
        for call in calls:
            self.fail(call, Failure(EngineFailed(f"model {self.name!r} was stopped"), retryable=True))
        tasks = tuple(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    def forget(self, call: HttpCall) -> bool:
        """It is over; False when it had ended."""
        if not call.running:
            return False
        del self.calls[call.call]
        self._load.ended()
        return True

    # Answers

    async def _answer(self, call: HttpCall, work: Work, session: "aiohttp.ClientSession") -> None:
        from router.pool.exchange import UpstreamExchange

        await UpstreamExchange(self._url, self._model, self._member, work, call).run(session)

    def done(self, call: HttpCall, events: UpstreamEvents, timings: Timings) -> None:
        """A whole answer was passed on."""
        if not self.forget(call):
            return
        usage = events.usage
        call.call.done(Done(id=0, usage=usage, finish_reason=events.finish_reason, timings=timings))
        self._heard_s = time.monotonic()
        if usage.prompt_tokens + usage.completion_tokens > (self._load.context_tokens or _MANY_TOKENS):
            usage = Usage()
        usage = without_length(usage) if call.call.atypical else usage
        self._load.answered(usage, timings, call.id, events.finish_reason in CUT)
        if events.faulted:
            self._breaker.failed(self._heard_s)
        else:
            self._breaker.succeeded()

    def refused(self, call: HttpCall, status: int, body: bytes, retry_after_s: float) -> None:
        """The upstream answered with an error."""
        if not call.running:
            return
        key = self._member.api_key.encode()
        refusal = refusal_of(self.name, status, body.replace(key, b"***") if key else body, retry_after_s=retry_after_s)
        if refusal.counts:
            self._breaker.failed(time.monotonic())
        if refusal.why:
            self._note(refusal.why)
        self.fail(call, refusal.failure)

    def blame(self, call: HttpCall, why: str) -> None:
        """The member itself failed."""
        if call.running:
            why = one_line(why)
            self._note(why)
            self._breaker.failed(time.monotonic())
            self.fail(call, Failure(EngineFailed(f"model {self.name!r} failed: {why}"), retryable=True))

    def fail(self, call: HttpCall, failure: Failure) -> None:
        if not self.forget(call):
            return
        try:
            call.call.fail(failure)
        except Exception:  # where many are told, one of them must not keep the others from hearing it
            log.exception("a request to %r: its receiver failed", self.name)

    def _note(self, why: str) -> None:
        """For the operator: the same fault is logged once."""
        if why != self.last_error:
            self.last_error = why
            log.warning("model %r: %s", self.name, why)

    async def _keep_listening(self) -> None:
        """Give up streams that bring no event. One look at all of them: a timer for each would cost every token."""
        silence_s = self._member.silence_timeout_s
        while True:
            await asyncio.sleep(max(silence_s / _LOOKS, _SHORTEST_LOOK_S))
            since = time.monotonic() - silence_s
            for call in [call for call in self.calls.values() if call.heard_s < since]:
                self.blame(call, f"it did not answer in time (`silence_timeout_s`: {silence_s:g} s)")
                if call.task is not None:
                    call.task.cancel()

    # Readiness

    async def _loaded(self, give_up: float) -> str:
        """Wait for a server that is up and loading; why it cannot serve, or empty."""
        while True:
            why = await self._ask()
            if not self._loading or time.monotonic() > give_up:
                return why
            await asyncio.sleep(_ASK_AGAIN_S)

    async def _keep_probing(self) -> None:
        """A URL that stops answering is not ready until it answers again; requests under way fail by themselves."""
        while True:
            await asyncio.sleep(self._supervision.ping_s)
            if self.phase == "ready" and time.monotonic() - self._heard_s < self._supervision.ping_s:
                continue  # answers say more than a probe
            why = await self._ask()
            if why and self.phase == "ready":
                log.error("model %r is not available: %s", self.name, why)
                self.last_error = why
                self.phase = "restarting"
            elif not why and self.phase == "restarting":
                log.info("model %r is back", self.name)
                self._breaker.reset()
                self.phase = "ready"

    async def _ask(self) -> str:
        """Why the member cannot serve; empty when it can. Learns its context length."""
        assert self._session is not None
        answered = await models.ask(self._session, self._url, self._supervision.ping_timeout_s)
        self._loading = answered.loading
        if not answered.why:
            self._learn(answered.context_tokens)
        return answered.why

    def _learn(self, context_tokens: dict[str, int]) -> None:
        if context_tokens and not self._member.model and self._model not in context_tokens:
            self._model = next(iter(context_tokens))
        known = context_tokens.get(self._model, 0)
        if known and not self._member.context_tokens:
            self._described(self._load.capabilities, known)

    def _described(self, capabilities: frozenset[str], context_tokens: int) -> None:
        self._load.described(capabilities, context_tokens)
        self.lane.described(capabilities, context_tokens)

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
