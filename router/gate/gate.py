"""Admission: `take` once, before anything is done for a request; its permit is settled once, at its end.

A request that finds no slot waits in a queue, bounded in number and in time. Where that is full it is refused, and told
when to come back (`promises`). A request that comes back on time may use every place of the queue. While such requests
are expected, new ones may use half of the places, and those that come back early a quarter, so that no slot stays idle.
A slot that becomes free goes to the queue first: no request overtakes.

The native intake asks the same `Slots`; what they do not admit at once comes here. Called from one event loop's thread.
"""

import asyncio
import logging
from collections.abc import Callable
from functools import partial
from time import perf_counter
from typing import Protocol

from router.config import Limits
from router.errors import OUR_FAULT, NoEngine, Overloaded, RouterError
from router.gate.permit import Permit, State
from router.gate.promises import Promises, name_of
from router.gate.queue import MakeOrder, OldestFirst
from router.gate.rate import FreedRate
from router.native.slots import Slots
from router.observe.metrics import Metrics

log = logging.getLogger("headgate.gate")

#: Requests of the queue that are begun in one turn of the event loop: each takes some 0.1 ms.
AT_ONCE = 16
#: Places that there are however slowly slots become free.
_LEAST_PLACES = 2


class Loop(Protocol):
    """What a gate needs of an event loop."""

    def call_soon(self, callback: Callable[[], None], /) -> object: ...

    def call_later(self, delay_s: float, callback: Callable[[], None], /) -> asyncio.TimerHandle: ...


class Gate:
    """Of one server: its listeners, the library and the native intake share it."""

    def __init__(
        self,
        limits: Limits,
        metrics: Metrics,
        *,
        order: MakeOrder = OldestFirst,
        clock: Callable[[], float] = perf_counter,
        loop: Callable[[], Loop] = asyncio.get_running_loop,
    ) -> None:
        """`clock` gives seconds, `loop` the event loop that runs: both are replaced in simulations."""
        self.slots = Slots(limits.in_flight, limits.pending_bytes, self._wake)
        self._most_waiting = limits.queue_places
        self._most_wait_s = limits.queue_s
        self._metrics = metrics
        self._queue = order()
        self._rate = FreedRate(self.slots)
        self._promises = Promises()
        self._clock = clock
        self._running_loop = loop
        self._loop: Loop | None = None  #: of the requests that wait
        self._due = False  #: the loop will call `_let_in`
        metrics.watch_queue(lambda: self.slots.waiting)

    def take(self, key_id: str, body: bytes) -> Permit:
        """The leave to start, now or later (`Permit.waiting`). Raises `Overloaded`, and `NoEngine` once closed."""
        slots, size = self.slots, len(body)
        if slots.admits(size):
            if self._promises:
                self._promises.withdraw(name_of(key_id, body))
            slots.take(size)
            return Permit(self, State.RUNNING, size, self._clock())
        if slots.closed:
            raise self._refused("closed", NoEngine("the server is shutting down", retry_after_s=5.0))
        now_s = self._clock()
        self._rate.seen(now_s)
        self._promises.forget_late(now_s)
        if not slots.fits(size):
            wait_s = (slots.waiting + 1) / self._rate.per_second(now_s)
            why = "the bodies of waiting requests fill their share of memory"
            raise self._refused("pending_bytes", Overloaded(why, retry_after_s=wait_s))
        return self._enqueue(name_of(key_id, body), size, now_s)

    def settle(self, permit: Permit) -> None:
        """See `Permit.settle`."""
        state, permit.state = permit.state, State.SETTLED
        permit.drop_body()
        if state is State.RUNNING:
            self.slots.end(self._clock() - permit.began_s)
        elif state is State.WAITING:
            self._queue.remove(permit)
            self.slots.leave()
            self._left(permit)
        permit.on_turn = permit.on_refusal = None

    def close(self) -> None:
        """Let nobody in from now on. Those that wait are theirs to end who took their permits."""
        self.slots.close()

    # Within

    def _enqueue(self, name: bytes, body_bytes: int, now_s: float) -> Permit:
        """Wait for a slot, or be refused."""
        left_s = self._promises.left_s(name, now_s)
        rate = self._rate.per_second(now_s)
        places = self._places(rate)
        if self._promises and left_s != 0.0:
            places = -(-places // (2 if left_s is None else 4))
        if len(self._queue) >= places:
            raise self._full(name, now_s, rate, left_s)
        self._loop = loop = self._running_loop()
        self._promises.withdraw(name)
        permit = Permit(self, State.WAITING, body_bytes, now_s, name)
        permit.timer = loop.call_later(self._most_wait_s, partial(self._too_late, permit))
        self._queue.add(permit)
        self.slots.wait(body_bytes)
        return permit

    def _places(self, rate: float) -> int:
        """As many as get a slot within the time that a request may wait."""
        return min(self._most_waiting, max(_LEAST_PLACES, int(rate * self._most_wait_s)))

    def _full(self, name: bytes, now_s: float, rate: float, left_s: float | None) -> RouterError:
        """`left_s`: of a request that was refused before, how early it comes."""
        if not left_s:
            left_s = self._promise(name, now_s, rate, again=left_s == 0.0)
        why = f"{self.slots.running} requests are in flight, the most allowed"
        if waiting := self.slots.waiting:
            why += f", and {waiting} wait"
        return self._refused("in_flight", Overloaded(why, retry_after_s=left_s))

    def _promise(self, name: bytes, now_s: float, rate: float, *, again: bool) -> float:
        return self._promises.make(name, now_s, (len(self._queue) + 1) / rate, rate, again=again)

    def _refused(self, reason: str, error: RouterError) -> RouterError:
        self._metrics.refused(reason)
        return error

    def _left(self, permit: Permit) -> None:
        """It no longer waits."""
        timer, permit.timer = permit.timer, None
        if timer is not None:
            timer.cancel()
        permit.waited_s = self._clock() - permit.entered_s
        self._metrics.queue_seconds.observe(permit.waited_s)

    def _too_late(self, permit: Permit) -> None:
        """The loop's call: the request has waited for as long as it may."""
        if not permit.waiting:
            return
        now_s, tell = self._clock(), permit.on_refusal
        self.settle(permit)
        self._rate.seen(now_s)
        wait_s = self._promise(permit.name, now_s, self._rate.per_second(now_s), again=True)
        why = f"no slot became free within {self._most_wait_s:g} s; {self.slots.running} requests are in flight"
        error = self._refused("queue_time", Overloaded(why, retry_after_s=wait_s))
        if tell is not None:
            tell(error)

    def _wake(self) -> None:
        """A slot is free, and a request waits. Not begun at once: the caller is in the midst of another's end."""
        if not self._due and self._loop is not None:
            self._due = True
            self._loop.call_soon(self._let_in)

    def _let_in(self) -> None:
        """The loop's call: begin those that wait, as slots allow."""
        self._due = False
        self._rate.seen(self._clock())
        slots = self.slots
        for _ in range(AT_ONCE):
            if not slots.waiting or slots.running >= slots.most:
                return
            self._begin(self._queue.next())
        if slots.waiting and slots.running < slots.most:
            self._wake()

    def _begin(self, permit: Permit) -> None:
        permit.state = State.RUNNING
        permit.began_s = self._clock()
        self.slots.start()
        self._left(permit)
        turn, tell = permit.on_turn, permit.on_refusal
        permit.on_turn = permit.on_refusal = None
        try:
            if turn is not None:
                turn()
        except Exception:  # the others that wait must still be begun
            log.exception("a request whose turn came could not be begun")
            if tell is not None:
                tell(RouterError(OUR_FAULT))
            permit.settle()
