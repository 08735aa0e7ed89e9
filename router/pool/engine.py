"""A member that is an engine host of this machine: the answers under way in it, its load and its health.

Knows the frames; nothing of HTTP, scores or policy. All of it runs on one event loop.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path

import msgspec

from router.config import Member, Supervision, adapters_of, model_name, takes_adapters
from router.errors import (
    ContentTooLarge,
    EngineStartError,
    ModelNotFound,
    NoEngine,
    Overloaded,
    ProtocolError,
)
from router.ipc.messages import (
    MAX_FRAME_BYTES,
    Abort,
    Chunks,
    Control,
    Done,
    Fail,
    Handoff,
    Hello,
    Load,
    Message,
)
from router.ipc.spec import HostSpec
from router.native.call import pass_on
from router.native.lane import Lane
from router.pool.adapters import Adapters
from router.pool.base import Call, MemberStatus, Work
from router.pool.breaker import Breaker
from router.pool.calls import Calls
from router.pool.claims import tokens
from router.pool.costs import Costs, Pricing
from router.pool.devices import with_lost_devices
from router.pool.file_names import file_name
from router.pool.handover import Tenure
from router.pool.held import Held
from router.pool.laned import ALIVE, ASLEEP, Laned
from router.pool.link import HostLink
from router.pool.load import LoadTracker, memory_share
from router.pool.process import HOST_COMMAND
from router.pool.question import Question
from router.pool.starting import Starting
from router.pool.submitting import check_known, submit_of
from router.pool.timings import Timings, key_of
from router.pool.turns import Load as MayLoad
from router.pool.turns import Turn, at_once, in_time, loader_of
from router.types import MemberState

log = logging.getLogger("headgate.pool")

#: Unsent bytes to one engine above which new work is refused: it reads too slowly.
MAX_UNSENT_BYTES = 256 * 1024 * 1024
_MAX_BODY_BYTES = MAX_FRAME_BYTES - 64 * 1024


class EngineMember(Laned):
    """Implements `PoolMember`. `start` may be called again after the host was lost."""

    def __init__(
        self,
        member: Member,
        supervision: Supervision,
        folder: Path,
        *,
        gpu_share: float,
        log_folder: Path | None = None,
        env: dict[str, str] | None = None,
        stream_buffer_bytes: int = 1 << 20,
        metrics: bool = True,
        lost_devices: Callable[[], str] | None = None,
        timings: Timings | None = None,
        costs: Costs | None = None,
        shared: Callable[[], Awaitable[Mapping[str, str]]] | None = None,
        command: tuple[str, ...] = HOST_COMMAND,
        generation: int = 0,
    ) -> None:
        """`shared`: awaited before each start, for variables that go beyond `env`; raises `EngineStartError`.
        `generation`: another number for each of those that have one name, in one folder."""
        self.name, self.model = member.name, model_name(member)
        self.turn: Turn = at_once
        self.loader = loader_of(member)
        self.restarts, self.last_error = 0, ""
        self.last_heard_s = self.ready_since_s = 0.0  #: monotonic
        self.on_lost: Callable[[], None] | None = None  #: called once per loss of an engine that was ready
        self.on_described: Callable[[str, frozenset[str]], None] | None = (
            None  #: its model, and what it can do: at each start
        )
        stem = file_name(member.name, generation)
        self._spec = HostSpec(
            name=member.replaces or self.model,
            label=member.name if member.name != (member.replaces or self.model) else "",
            model=member.model,
            socket=str(folder / f"{stem}.sock"),
            engine_args=member.engine_args,
            fast_path=member.fast_path,
            watch=member.watch,
            stream_buffer_bytes=stream_buffer_bytes,
            secret=supervision.host_secret,
            metrics=metrics,
        )
        self.adapters = Adapters(adapters_of(member.engine_args))
        self.takes_adapters = takes_adapters(member.engine_args)
        self.log_path = (log_folder or folder) / f"{stem}.log"
        self._supervision, self._command = supervision, command
        self._env, self._shared = env or {}, shared
        self._load = LoadTracker(member, gpu_share)
        self.lane = Lane(self._load, self._load.usd_per_s)  #: what native steps need of us
        self.lane.owner = self
        self._breaker = Breaker(supervision.breaker_failures, supervision.breaker_open_s, self.lane)
        self._calls = Calls(self, self._load, self._breaker, self.abort)
        self._link: HostLink | None = None
        self._hello: Hello | None = None
        self._metrics = Question()
        self.tenure = Tenure(self._spec)
        self.starting = Starting(timings or Timings(None), key_of(self._spec))
        self.pricing = Pricing(costs or Costs(None), key_of(self._spec), member.name, self._load)
        self._lost_devices = lost_devices
        self.held = Held()  #: requests that wait for it to wake
        self.on_asked: Callable[[], None] | None = None  #: called as one begins to wait there
        self._killed = ""  # why we ended it ourselves

    # PoolMember

    def submit(self, work: Work, call: Call) -> None:
        link = self._link
        awake = self._phase == "ready" or (self._phase in ALIVE and work.kind == "admin")
        if not awake and self.welcome and self.on_asked is not None:
            self.held.add(work, call, self.name)
            self.on_asked()
            return
        if not awake or link is None:
            raise NoEngine(f"model {self.model!r} is not available now ({self._phase})", retry_after_s=1.0)
        if link.unsent_bytes() + len(work.body) > MAX_UNSENT_BYTES:
            raise Overloaded(f"model {self.model!r} reads its requests too slowly", retry_after_s=1.0)
        if len(work.body) > _MAX_BODY_BYTES:
            raise ContentTooLarge(f"a body of {len(work.body)} bytes; an engine takes at most {_MAX_BODY_BYTES}")
        self._check_known(work)
        id = self.lane.last_id = self.lane.last_id + 1
        try:
            link.send(submit_of(work, id, self.verbs))
        except ProtocolError as error:  # what goes beside the body is small, unless a caller makes it large
            raise ContentTooLarge(f"a request that makes no frame to its engine: {error}") from error
        call.lane, call.id = self.lane, id
        self._calls.add(call, work)

    def abort(self, call: Call) -> None:
        if not self.held.discard(call) and self._calls.discard(call) and self._link is not None:
            self._link.send(Abort(call.id))

    def state(self) -> MemberState:
        open = self.lane.probed and self._breaker.is_open(time.monotonic())
        return self._load.state(ready=self.welcome, breaker_open=open)

    def status(self) -> MemberStatus:
        process = None if self._link is None else self._link.process
        return MemberStatus(
            name=self.name,
            model=self.model if self.model != self.name else "",
            kind="engine",
            phase=self.phase,
            state=self.state() if not self.wakeable else msgspec.structs.replace(self.state(), waiting=len(self.held)),
            restarts=self.restarts,
            last_error=self.last_error,
            pid=0 if process is None else process.pid,
            engine_version="" if self._hello is None else self._hello.engine_version,
            in_flight=len(self._calls),
            lined=self._load.lined,
            most_running=self.most_running,
            devices=self.loader.devices,
            memory_share=memory_share(self._spec.engine_args),
            usd_per_hour=round(self._load.usd_per_s * 3600.0, 6),
            start=self.starting.progress(),
            adapters=tuple(adapter.name for adapter in self.adapters.there),
            **self.sleep_status(),
            cost=self._load.model(),
        )

    async def start(self) -> None:
        await self._release()
        self.phase = "starting" if self._hello is None else "restarting"
        link = self._link = HostLink(self.name, self.received, self._lost, self._writable, self._frames)
        timeout_s = self._supervision.start_timeout_s
        try:
            async with in_time(self.turn, timeout_s) as load:
                if (hello := await self.tenure.joined(link)) is None:
                    hello = await self._opened(link, load)
                else:
                    self.adapters.found(hello.adapters)
        except TimeoutError:
            why = f"it was not ready within {timeout_s:g} s; its log is {self.log_path}"
            await self._give_up(why)
            raise EngineStartError(self.name, why) from None
        except EngineStartError as error:
            why = await with_lost_devices(error.why, self._lost_devices)
            await self._give_up(why)
            if why == error.why:
                raise
            raise EngineStartError(self.name, why) from error
        except BaseException:
            await self._give_up("its start was given up")
            raise
        self._hello = hello
        self._load.most_running = hello.max_running
        self.verbs, self.lane.continues = hello.verbs, "continue" in hello.verbs
        if missing := self.adapters.told(hello.adapters):
            log.warning("engine %r: adapters that could not be loaded again: %s", self.name, ", ".join(missing))
        self.described(frozenset(hello.capabilities), hello.context_tokens)
        self._breaker.reset()
        self.last_heard_s = self.ready_since_s = time.monotonic()
        self.phase = "ready"
        self._writable(True)

    async def _opened(self, link: HostLink, load: MayLoad) -> Hello:
        async with self.starting.followed(link.news):
            spec = msgspec.structs.replace(self.tenure.spec, adapters=self.adapters.added)
            env = self._env if self._shared is None else {**self._env, **await self._shared()}
            return await link.open(spec, self.log_path, env, self._command, load)

    async def park(self) -> None:
        """End its process, to give its memory back; `start` brings it back."""
        self.phase = "parked"
        await self._release()
        self._load.forget()
        self._calls.lost(f"engine {self.name!r} was put to sleep")

    async def stop(self) -> None:
        self.phase = "stopped"
        self.held.fail(self.name, "is stopped")
        await self._release()
        self._calls.stopped()

    def _check_known(self, work: Work) -> None:
        """Raises where the host does not know this kind of request, or has no such adapter any more."""
        check_known(work, self._hello, self.name)
        if work.adapter and work.adapter not in self.adapters:
            raise ModelNotFound(f"{self.name!r} has no adapter {work.adapter[:200]!r} any more", param="model")

    def described(self, capabilities: frozenset[str], context_tokens: int) -> None:
        """The engine said what it can do."""
        context_tokens = tokens(context_tokens)
        self._load.described(capabilities, context_tokens)
        self.lane.described(capabilities, context_tokens)
        if self.on_described is not None:
            self.on_described(self.model, capabilities)

    def fall_asleep(self, asleep: bool) -> None:
        """Give it no more requests, or give it some again. Of one that is not ready, or lost meanwhile, no word."""
        if self.phase in ALIVE:
            self.phase = "asleep" if asleep else "ready"
            self._load.emptied()
            self._writable(not asleep)

    @property
    def answers_as(self) -> str:
        """The model name that its answers carry, and by which its host knows itself."""
        return self._spec.name

    @property
    def process_id(self) -> int:
        """Of the host that answers, or did last; 0: none has yet."""
        return 0 if self._hello is None else self._hello.pid

    @property
    def in_flight(self) -> int:
        return len(self._calls)

    # For the supervisor

    def ping(self) -> None:
        if self._link is not None:
            self._link.send(Control("ping"))

    @property
    def tells_metrics(self) -> bool:
        """Whether it can be asked for them now."""
        return self.phase in ALIVE and self._hello is not None and "metrics" in self._hello.verbs

    async def metrics(self) -> str:
        """The engine's own, as Prometheus text, where `tells_metrics`. Cancelled when the engine is lost."""
        assert self._link is not None
        link = self._link
        page = await asyncio.shield(self._metrics.put(lambda: link.send(Control("metrics"))))
        label = self.tenure.label
        return page if label == self.name else page.replace(_labelled(label), _labelled(self.name))

    def kill(self, why: str) -> None:
        """The host hangs: end it. Its loss is then handled as any other."""
        self._killed = why
        if self._link is not None:
            self._link.kill()

    async def reap(self) -> None:
        """After a loss: end what is left of the host, and note how it died."""
        link, why = self._link, self._killed
        self._killed = ""
        await self._release()
        if link is not None and link.process is not None:
            self.last_error = await with_lost_devices(why or link.process.epitaph(), self._lost_devices)

    @property
    def link(self) -> HostLink | None:
        return self._link

    # Messages

    def received(self, message: Message) -> None:
        """Every message of the host after its Hello."""
        self.last_heard_s = time.monotonic()
        if isinstance(message, Chunks):
            self._calls.chunks(message)
        elif isinstance(message, Done):
            self._calls.done(message)
        elif isinstance(message, Load):
            if not self.wakeable:
                self._load.reported(message)
        elif isinstance(message, Fail):
            self._calls.fail(message)
        elif isinstance(message, Handoff):
            self._calls.handoff(message)
        elif isinstance(message, Control):
            if message.op == "metrics":
                self._metrics.answered(message.argument)
            elif message.op == "hand_over":
                self.tenure.answered(message.argument)
        elif not isinstance(message, Hello):
            raise ProtocolError(f"a host does not send {type(message).__name__}")

    def _frames(self, data: bytes) -> int:
        """The frames of running answers, natively; the bytes taken."""
        self.last_heard_s = time.monotonic()
        return pass_on(self.lane, data, self._calls.receiver_broke)

    def _writable(self, writable: bool) -> None:
        """Frames may go straight to the channel as long as the host reads them in time."""
        channel = None if self._link is None or self._phase in ASLEEP else self._link.channel
        self.lane.send = channel.send_frame if writable and channel is not None else None

    # Loss

    def _lost(self, link: HostLink, error: Exception | None) -> None:
        if link is not self._link or self.phase not in ALIVE:
            return  # a start that fails, or a stop: whoever waits for it tells
        self.phase = "restarting"
        self.lane.send = None
        self._metrics.lost()
        self.tenure.lost()
        self._load.forget()
        why = f"engine {self.name!r} was lost" + (f": {error}" if error else "")
        log.error("%s; %d requests were under way", why, len(self._calls))
        self._calls.lost(why)
        if self.on_lost is not None:
            self.on_lost()

    async def _release(self) -> None:
        link, self._link = self._link, None
        self._metrics.lost()
        self.lane.send = None
        if link is not None:
            try:
                await link.close(self._supervision.stop_timeout_s)
            except Exception:
                log.exception("engine %r: its host could not be ended in order", self.name)
                link.kill()

    async def _give_up(self, why: str) -> None:
        self.last_error = why
        self.phase = "failed"
        await self._release()


def _labelled(member: str) -> str:
    """As the text format of Prometheus writes it."""
    escaped = member.replace("\\", r"\\").replace('"', r"\"")
    return f'member="{escaped}"'
