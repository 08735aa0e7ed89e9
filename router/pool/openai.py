"""A member that is an OpenAI-compatible URL, for example a `vllm serve` that runs already.

Its event stream is passed on as it comes, in whole events. Knows nothing of scores or policy. aiohttp is imported late:
a pool without such a member does not pay for it.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec

from router.config import Member, Supervision
from router.errors import EngineFailed, EngineStartError, NoEngine, RouterError
from router.ipc.messages import Done
from router.pool.base import Failure, MemberPhase, MemberStatus, Receiver, Work
from router.pool.breaker import Breaker
from router.pool.failure import failure_of, is_members_fault
from router.pool.load import LoadTracker, without_length
from router.pool.sse import Passage, with_model
from router.types import API_PATHS, MemberState, Timings, Usage

if TYPE_CHECKING:
    import aiohttp

log = logging.getLogger("headgate.pool")

_CAPABILITIES = frozenset({"chat", "completions", "tools", "structured", "logprobs", "vision", "responses", "messages"})
#: A burst of new connections overflows an upstream's listen queue, and TCP tries again after 1, 2, 4, 8 s; that must
#: not look like a dead upstream. One that is really gone is found by probing, or refuses at once.
_CONNECT_S = 20.0
_ASK_AGAIN_S = 0.5
_SILENT_S = 300.0  #: an answer that brings nothing for so long is taken for dead
_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024


class _ModelCard(msgspec.Struct):
    id: str
    max_model_len: int | None = None


class _Models(msgspec.Struct):
    data: list[_ModelCard]


class HttpCall:
    """One request to the URL."""

    __slots__ = ("_member", "chunk", "receiver", "task", "typical")

    def __init__(self, member: "OpenAIMember", receiver: Receiver) -> None:
        self._member = member
        self.receiver = receiver
        self.typical = True
        self.chunk: Callable[[bytes], None] = receiver.chunk
        self.task: asyncio.Task[None] | None = None

    def stream_to(self, chunk: Callable[[bytes], None]) -> None:
        self.chunk = chunk

    def abort(self) -> None:
        if self._member.forget(self) and self.task is not None:
            self.task.cancel()


class OpenAIMember:
    """Implements `PoolMember`. It is ready once its `/v1/models` answers; probing goes on while it does not."""

    def __init__(self, member: Member, supervision: Supervision, *, gpu_share: float) -> None:
        self.name = member.name
        self.phase: MemberPhase = "waiting"
        self.last_error = ""
        self._model = member.model or member.name
        self._member = member
        self._supervision = supervision
        self._base = member.url.rstrip("/").removesuffix("/v1")
        self._load = LoadTracker(member, gpu_share)
        if member.capabilities is None:
            self._load.described(_CAPABILITIES, member.context_tokens)
        self._breaker = Breaker(supervision.breaker_failures, supervision.breaker_open_s)
        self._heard_s = 0.0  # monotonic; of the last whole answer
        self._loading = False  # it answers, but not yet with models
        self._calls: set[HttpCall] = set()
        self._session: aiohttp.ClientSession | None = None
        self._probe: asyncio.Task[None] | None = None

    # PoolMember

    def submit(self, work: Work, receiver: Receiver) -> HttpCall:
        if self.phase != "ready" or self._session is None:
            raise NoEngine(f"model {self.name!r} is not available now ({self.phase})", retry_after_s=1.0)
        call = HttpCall(self, receiver)
        call.typical = work.typical
        self._calls.add(call)
        self._load.submitted(work.prompt_tokens)
        if self._breaker.state != "closed":
            self._breaker.submitted(time.monotonic())
        call.task = asyncio.get_running_loop().create_task(self._answer(call, work, self._session))
        return call

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
            engine_version=self._base,
            in_flight=len(self._calls),
        )

    async def start(self) -> None:
        import aiohttp

        self.phase = "starting"
        headers = {"content-type": "application/json"}
        if self._member.api_key:
            headers["authorization"] = f"Bearer {self._member.api_key}"
        # Admission bounds the requests in flight; a bound here would only make healthy requests wait and time out.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=60.0)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_SILENT_S)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)
        why = await self._loaded(time.monotonic() + self._supervision.start_timeout_s)
        if why:
            self.last_error = why
            self.phase = "failed"
            await self._close()
            raise EngineStartError(self.name, why)
        self.phase = "ready"
        self._probe = asyncio.create_task(self._keep_probing())

    async def stop(self) -> None:
        self.phase = "stopped"
        if self._probe is not None:
            self._probe.cancel()
            await asyncio.gather(self._probe, return_exceptions=True)
            self._probe = None
        calls = tuple(self._calls)
        for call in calls:
            self._fail(call, Failure(EngineFailed(f"model {self.name!r} was stopped"), retryable=True))
        tasks = [call.task for call in calls if call.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._close()

    def forget(self, call: HttpCall) -> bool:
        """Take `call` off the books; False when it had ended."""
        if call not in self._calls:
            return False
        self._calls.discard(call)
        self._load.ended()
        return True

    # Answers

    async def _answer(self, call: HttpCall, work: Work, session: "aiohttp.ClientSession") -> None:
        import aiohttp

        begun = time.monotonic()
        try:
            await self._exchange(call, work, session, begun)
        except RouterError as error:
            self._fail(call, Failure(error))
        except TimeoutError:
            self._blame(call, "it did not answer in time")
        except aiohttp.ClientError as error:
            self._blame(call, f"{type(error).__name__}: {error}")
        except Exception as error:  # whatever breaks must end this request
            log.exception("a request to %r failed", self.name)
            self._blame(call, f"{type(error).__name__}: {error}")

    async def _exchange(self, call: HttpCall, work: Work, session: "aiohttp.ClientSession", begun: float) -> None:
        import aiohttp

        headers = {"x-request-id": work.request_id} if work.request_id else {}
        if work.traceparent:
            headers["traceparent"] = work.traceparent
        body = with_model(work.body, self._model)
        timeout = aiohttp.ClientTimeout(total=work.deadline_s or None, sock_connect=_CONNECT_S, sock_read=_SILENT_S)
        url = self._base + API_PATHS[work.kind]
        async with session.post(url, data=body, headers=headers, timeout=timeout) as response:
            if response.status >= 400:
                error_body = await response.content.read(1 << 20)
                if is_members_fault(response.status):
                    self._breaker.failed(time.monotonic())
                self._fail(call, failure_of(response.status, error_body, "", retryable=False))
            elif response.content_type == "text/event-stream":
                await self._stream(call, response, begun)
            else:
                await self._whole(call, response, begun)

    async def _stream(self, call: HttpCall, response: "aiohttp.ClientResponse", begun: float) -> None:
        passage = Passage(self._model, self.name)
        first = 0.0
        async for data in response.content.iter_any():
            events = passage.feed(data)
            if not events:
                continue
            if not first:
                first = time.monotonic() - begun
            if not self._pass_on(call, events):
                return
        if not passage.finished:
            self._blame(call, "its stream ended before [DONE]")
            return
        self._done(call, passage.usage, passage.finish_reason, Timings(first, time.monotonic() - begun))

    async def _whole(self, call: HttpCall, response: "aiohttp.ClientResponse", begun: float) -> None:
        parts: list[bytes] = []
        size = 0
        async for data in response.content.iter_any():
            parts.append(data)
            size += len(data)
            if size > _LARGEST_ANSWER_BYTES:
                self._blame(call, f"its answer is larger than {_LARGEST_ANSWER_BYTES} bytes")
                return
        passage = Passage(self._model, self.name)
        if self._pass_on(call, passage.whole(b"".join(parts))):
            self._done(call, passage.usage, passage.finish_reason, Timings(0.0, time.monotonic() - begun))

    def _pass_on(self, call: HttpCall, data: bytes) -> bool:
        """Give `data` to the receiver; False when the call ended meanwhile."""
        if call in self._calls:
            call.chunk(data)
        return call in self._calls

    def _done(self, call: HttpCall, usage: Usage, finish_reason: str, timings: Timings) -> None:
        if not self.forget(call):
            return
        self._heard_s = time.monotonic()
        self._load.answered(usage if call.typical else without_length(usage), timings)
        self._breaker.succeeded()
        call.receiver.done(Done(id=0, usage=usage, finish_reason=finish_reason, timings=timings))

    def _blame(self, call: HttpCall, why: str) -> None:
        """The member itself failed."""
        if call in self._calls:
            self._breaker.failed(time.monotonic())
            self._fail(call, Failure(EngineFailed(f"model {self.name!r} failed: {why}"), retryable=True))

    def _fail(self, call: HttpCall, failure: Failure) -> None:
        if self.forget(call):
            call.receiver.fail(failure)

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
        import aiohttp

        assert self._session is not None
        self._loading = False
        url = self._base + "/v1/models"
        try:
            async with self._session.get(
                url, timeout=aiohttp.ClientTimeout(total=self._supervision.ping_timeout_s)
            ) as response:
                body = await response.content.read(1 << 20)
                if response.status in (404, 405):
                    return ""  # alive, and without a list of models
                self._loading = response.status == 503
                if response.status >= 400:
                    return failure_of(response.status, body, "", retryable=False).error.message
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"{url} does not answer: {str(error) or type(error).__name__}"
        self._learn(body)
        return ""

    def _learn(self, body: bytes) -> None:
        try:
            cards = {card.id: card for card in msgspec.json.decode(body, type=_Models).data}
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # a list of another shape: it answers, and that is what was asked
        if cards and not self._member.model and self._model not in cards:
            self._model = next(iter(cards))
        card = cards.get(self._model)
        if card is not None and card.max_model_len and not self._member.context_tokens:
            self._load.described(self._load.capabilities, card.max_model_len)

    async def _close(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
