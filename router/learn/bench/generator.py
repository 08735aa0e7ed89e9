"""The load generator: sends one cell's requests at their planned moments, whatever has been answered (open loop).

A request's time counts from its planned moment, so a target that answers late is charged for all that piles up behind
(no coordinated omission). How late the generator itself was is in every row.
"""

import asyncio
import contextlib
import gc
import itertools
import math
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from router.learn.bench import client, policies, told
from router.learn.bench.alarm import Alarm
from router.learn.bench.policies import Policy
from router.learn.bench.rows import Row
from router.learn.bench.workload import Item

_LEAD_S = 0.05  #: from the cell's start to its first moment
_SWEEP_S = 0.1  #: how often requests are looked at that may have taken too long
_CONNECT_S = 10.0
_MOST_WAIT_S = 300.0  #: a retry-after beyond is not waited for
_CALM = (50_000, 50, 50)  #: of garbage collection: what a request leaves is freed by counts


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """How every request is made."""

    max_tokens: int
    temperature: float | None = 0.0
    stream: bool = True
    extra: Mapping[str, object] = {}  #: further fields of the body
    timeout_s: float = 120.0  #: from the planned moment; of a retry from its own
    retries: int = 0  #: of a 429, after the time it says


class Planned(msgspec.Struct, frozen=True):
    at_s: float
    item: int
    warm: bool = False


class Sent(msgspec.Struct, frozen=True, kw_only=True):
    """One cell as it was."""

    rows: list[Row]
    wall_s: float
    own_cpu_s: float
    events: int


def body(item: Item, how: Ask) -> bytes:
    """The request's JSON without its `model`, which goes in front."""
    fields: dict[str, object] = {"messages": item.turns, "max_tokens": item.max_tokens or how.max_tokens}
    if how.temperature is not None:
        fields["temperature"] = how.temperature
    if item.fixed:
        fields["ignore_eos"] = True
    if how.stream:
        fields |= {"stream": True, "stream_options": {"include_usage": True}}
    return msgspec.json.encode({**fields, **how.extra})


class Generator:
    """One policy's cell. Use once, within a running loop."""

    def __init__(
        self, policy: Policy, plan: Sequence[Planned], bodies: Sequence[bytes], how: Ask, *, round: int = 0,
        level: int = 0, seed: int = 0, static: Mapping[int, str] | None = None,
        on_end: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """`bodies`: by item, without `model`. `static`: of a static policy, which model an item is sent to."""
        self._policy, self._plan, self._bodies, self._how = policy, plan, bodies, how
        self._round, self._level, self._seed, self._on_end = round, level, seed, on_end
        self._static = static or {}
        lines = [f"authorization: {policy.endpoint.authorization}"] if policy.endpoint.authorization else []
        self._headers = [*lines, *policy.headers]
        self._path, self._host = policy.endpoint.path, policy.endpoint.host
        self._free: list[client.Connection] = []
        self._due: dict[client.Connection, float] = {}
        self._in_flight: dict[str, int] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._next = 0
        self._begun_s = 0.0
        self._rows: list[Row] = []
        self._events = 0

    async def run(self) -> Sent:
        """Until the last request has ended. Cancelled, it leaves what has ended in `sent`."""
        loop = asyncio.get_running_loop()
        self._done = loop.create_future()
        self._cpu_s = time.process_time()
        self._begun_s = time.perf_counter() + _LEAD_S
        alarm = Alarm(loop, self._wake)
        self._alarm = alarm
        sweep = loop.create_task(self._sweep())
        try:
            with _calm():
                self._arm()
                await self._done
        finally:
            alarm.close()
            sweep.cancel()
            for task in self._running:
                task.cancel()
            for connection in (*self._free, *self._due):
                connection.close()
            await asyncio.gather(sweep, *self._running, return_exceptions=True)
        return self.sent()

    def sent(self) -> Sent:
        """What has ended so far, in the plan's order."""
        rows = sorted(self._rows, key=lambda row: row.number)
        return Sent(
            rows=rows, wall_s=max(0.0, time.perf_counter() - self._begun_s), events=self._events,
            own_cpu_s=time.process_time() - self._cpu_s,
        )  # fmt: skip

    def _arm(self) -> None:
        if self._next < len(self._plan):
            self._alarm.set(self._begun_s + self._plan[self._next].at_s)
        elif not self._running and not self._done.done():
            self._done.set_result(None)

    def _wake(self) -> None:
        """Send all that is due."""
        now_s = time.perf_counter() - self._begun_s
        while self._next < len(self._plan) and self._plan[self._next].at_s <= now_s:
            task = asyncio.ensure_future(self._one(self._next))
            self._running.add(task)
            task.add_done_callback(self._ended)
            self._next += 1
        self._arm()

    def _ended(self, task: "asyncio.Task[None]") -> None:
        self._running.discard(task)
        self._on_end()
        if not task.cancelled() and (error := task.exception()) is not None and not self._done.done():
            self._done.set_exception(error)  # a bug of ours: told, never in silence
        if self._next >= len(self._plan):
            self._arm()

    def _model(self, number: int, item: int) -> str:
        policy = self._policy
        if policy.chooser == "random":
            return policies.share(policy.models, self._seed, self._round, number)
        if policy.chooser == "jsq":
            return policies.shortest(policy.models, self._in_flight, number)
        return self._static[item] if policy.chooser == "static" else policy.models[0]

    async def _one(self, number: int) -> None:
        planned = self._plan[number]
        model = self._model(number, planned.item)
        self._in_flight[model] = self._in_flight.get(model, 0) + 1
        try:
            data = b'{"model":' + msgspec.json.encode(model) + b"," + self._bodies[planned.item][1:]
            request = client.post(self._path, data, host=self._host, headers=self._headers)
            due_s = self._begun_s + planned.at_s
            answer, found, first_s, tries = await self._asked(request, due_s)
            self._rows.append(self._row(number, planned, model, answer, found, first_s - due_s, tries))
        finally:
            self._in_flight[model] -= 1

    async def _asked(self, request: bytes, due_s: float) -> tuple[client.Answer, told.Told, float, int]:
        """The answer, what it told, when the first try was sent, and how many there were."""
        first_s, tries, limit_s = 0.0, 0, due_s + self._how.timeout_s
        while True:
            tries += 1
            answer, fault, why = await self._try(request, limit_s)
            first_s = first_s or answer.sent_s
            found = told.read(answer, stream=self._how.stream)
            if fault and not found.fault:
                found.fault, found.why = fault, why
            wait_s = retry_after_s(answer) if found.fault == "limited" else None
            if tries > self._how.retries or wait_s is None or wait_s > _MOST_WAIT_S:
                return answer, found, first_s, tries
            await asyncio.sleep(wait_s)
            limit_s = time.perf_counter() + self._how.timeout_s

    async def _try(self, request: bytes, limit_s: float) -> tuple[client.Answer, told.Fault, str]:
        """One request over one connection. A kept connection that the server closes before the first byte is replaced
        by a new one, as HTTP clients do."""
        answer = client.Answer()
        answer.sent_s = time.perf_counter()
        for again in (True, False):
            kept = again and bool(self._free)
            connection = client.Connection()
            try:
                connection = self._free.pop() if kept else await self._connect()
                self._due[connection] = limit_s
                answer = await connection.ask(request)
                if connection.open:
                    self._free.append(connection)
                return answer, "", ""
            except (OSError, ValueError, TimeoutError) as error:
                if self._due.get(connection) is None:
                    return answer, "refused", str(error) or type(error).__name__
                answer = connection.answer
                answer.end_s = time.perf_counter()
                if kept and not answer.status and not isinstance(error, (TimeoutError, ValueError)):
                    continue
                kind: told.Fault = (
                    "timeout" if isinstance(error, TimeoutError)
                    else "malformed" if isinstance(error, ValueError) else "cut"
                )  # fmt: skip
                return answer, kind, str(error)
            finally:
                self._due.pop(connection, None)
        raise AssertionError

    async def _connect(self) -> client.Connection:
        async with asyncio.timeout(min(_CONNECT_S, self._how.timeout_s)):
            return await client.connect(self._policy.endpoint.url)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(_SWEEP_S)
            now_s = time.perf_counter()
            for connection, limit_s in list(self._due.items()):
                if now_s >= limit_s:
                    connection.abort(TimeoutError(f"no whole answer within {self._how.timeout_s:g} s"))

    def _row(
        self, number: int, planned: Planned, model: str, answer: client.Answer, found: told.Told, late_s: float,
        tries: int,
    ) -> Row:  # fmt: skip
        due_s, at_s = self._begun_s + planned.at_s, found.at_s
        self._events += len(at_s)
        counted = found.completion_tokens is None
        end_s = answer.end_s or time.perf_counter()
        return Row(
            round=self._round, level=self._level, policy=self._policy.name, number=number, item=planned.item,
            at_s=round(planned.at_s, 6), warm=planned.warm, asked=model, model=found.model, status=answer.status,
            fault=found.fault, why=found.why[:300], late_us=_us(late_s), ttft_us=_us(at_s[0] - due_s) if at_s else None,
            e2e_us=_us(end_s - due_s), gaps_us=[_us(b - a) for a, b in itertools.pairwise(at_s)],
            input_tokens=found.prompt_tokens or 0,
            output_tokens=len(at_s) if found.completion_tokens is None else found.completion_tokens, counted=counted,
            finish=found.finish, retry_after_s=retry_after_s(answer) if found.fault == "limited" else None, tries=tries,
            text=found.text,
        )  # fmt: skip


def retry_after_s(answer: client.Answer) -> float | None:
    """What a refusal says; None where it says nothing that can be read."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        with contextlib.suppress(KeyError, ValueError):
            seconds = float(answer.headers[name]) * unit
            if math.isfinite(seconds) and seconds >= 0:
                return seconds
    return None


def raise_file_limit() -> None:
    """As many connections as the system allows."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


@contextlib.contextmanager
def _calm() -> Iterator[None]:
    """Without the pauses of whole collections, which would be counted as the target's."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_CALM)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()


def _us(seconds: float) -> int:
    return round(seconds * 1e6)
