"""Admission: `take` once, before anything is done for a request; its permit is settled once, at its end.

A request that finds no slot waits in a queue, bounded in number and in time, in the order of `queue`. Where that is
full, whoever would get a slot last is refused, and told when to come back (`promises`). A request that comes back on
time may use every place of the queue. While such requests are expected, new ones may use half of the places, and those
that come back early a quarter, so that no slot stays idle. A slot that becomes free goes to the queue first: no new
request overtakes.

A request that was let in may still have to wait until a member has room (`lines`).

The native intake asks the same `Slots`; what they do not admit at once comes here. Called from one event loop's thread.
"""

import logging
from asyncio import get_running_loop
from collections.abc import Callable
from functools import partial
from time import perf_counter

from router.config import Limits
from router.dialects.priority import priority_of
from router.errors import OUR_FAULT, NoEngine, Overloaded, RouterError
from router.gate.lines import AT_ONCE, Lines, Loop
from router.gate.permit import Permit, State
from router.gate.promises import Promises, name_of
from router.gate.queue import Queue
from router.gate.rate import FreedRate
from router.native.slots import Slots
from router.observe.metrics import Metrics

log = logging.getLogger("headgate.gate")

#: Places that there are however slowly slots become free.
_LEAST_PLACES = 2


class Gate:
    """Of one server: its listeners, the library and the native intake share it."""

    def __init__(
        self,
        limits: Limits,
        metrics: Metrics,
        *,
        clock: Callable[[], float] = perf_counter,
        loop: Callable[[], Loop] = get_running_loop,
    ) -> None:
        """`clock` gives seconds, `loop` the event loop that runs: both are replaced in simulations."""
        self.slots = Slots(limits.in_flight, limits.pending_bytes, self._wake)
        self._most_waiting = limits.queue_places
        self._most_wait_s = limits.queue_s
        self._metrics = metrics
        self._queue = Queue()
        self._rate = FreedRate(self.slots)
        self._promises = Promises()
        self.lines = Lines(self.slots, self._promises, metrics, limits.wait_s, clock, self._looped)
        self._clock = clock
        self._running_loop = loop
        self._loop: Loop | None = None  #: of the requests that wait
        self._due = False  #: the loop will call `_let_in`
        metrics.watch_queue(lambda: self.slots.waiting + self.slots.lined)

    def take(self, key_id: str, body: bytes, priority: int = 0) -> Permit:
        """The leave to start, now or later (`Permit.waiting`). `priority`: lower starts earlier; 0: what `body` says.
        Raises `Overloaded`, and `NoEngine` once closed."""
        slots, size = self.slots, len(body)
        if slots.admits(size):
            permit = Permit(self, State.RUNNING, size, self._clock())
            if self._promises:
                permit.since_s = self._promises.kept(name_of(key_id, body), permit.since_s)
            slots.take(size)
            return permit
        if slots.closed:
            raise self._refused("closed", NoEngine("the server is shutting down", retry_after_s=5.0))
        now_s = self._clock()
        self._rate.seen(now_s)
        self._promises.forget_late(now_s)
        if not slots.fits(size):
            wait_s = (slots.waiting + 1) / self._rate.per_second(now_s)
            why = "the bodies of waiting requests fill their share of memory"
            raise self._refused("pending_bytes", Overloaded(why, retry_after_s=wait_s))
        permit = Permit(self, State.WAITING, size, now_s, name_of(key_id, body))
        permit.key_id, permit.priority = key_id, priority or priority_of(body)
        self._enqueue(permit, now_s)
        return permit

    def rank(self, permit: Permit, priority: int, deadline_s: float | None) -> None:
        """More is known of a request that waits for a slot: its priority, where it is not 0, and how many seconds from
        now its answer is worth nothing."""
        self._queue.remove(permit)
        permit.priority = priority or permit.priority
        permit.deadline_s = permit.deadline_s if deadline_s is None else self._clock() + deadline_s
        self._queue.add(permit)

    def settle(self, permit: Permit) -> None:
        """See `Permit.settle`."""
        state, permit.state = permit.state, State.SETTLED
        permit.drop_body()
        if permit.line is not None:
            permit.line.leave()
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

    def _looped(self) -> Loop:
        """The loop, which `_wake` needs from now on."""
        self._loop = self._running_loop()
        return self._loop

    def _enqueue(self, permit: Permit, now_s: float) -> None:
        """Wait for a slot. Where the queue is full, whoever would get one last is refused; of one key and priority, the
        one that comes."""
        left_s = self._promises.left_s(permit.name, now_s)
        rate = self._rate.per_second(now_s)
        places = self._places(rate)
        if self._promises and left_s != 0.0:
            places = -(-places // (2 if left_s is None else 4))
        if left_s == 0.0:
            permit.since_s = self._promises.since_s(permit.name)
        self._queue.add(permit)
        if len(self._queue) > places:
            last = self._queue.last()
            if (last.priority, last.key_id) == (permit.priority, permit.key_id):
                self._queue.remove(permit)
                raise self._full(permit, now_s, rate, left_s)
            self._displace(last, now_s, rate)
        self._promises.kept(permit.name, now_s)
        permit.timer = self._looped().call_later(self._most_wait_s, partial(self._too_late, permit))
        self.slots.wait(permit.held_bytes)

    def _displace(self, permit: Permit, now_s: float, rate: float) -> None:
        """Refuse one that waits: another that starts before it takes its place."""
        tell = permit.on_refusal
        self.settle(permit)
        wait_s = self._promise(permit, now_s, rate, again=True)
        why = "its place in the queue went to a request that starts before it"
        error = self._refused("displaced", Overloaded(why, retry_after_s=wait_s))
        if tell is not None:
            self._looped().call_soon(partial(tell, error))

    def _places(self, rate: float) -> int:
        """As many as get a slot within the time that a request may wait."""
        return min(self._most_waiting, max(_LEAST_PLACES, int(rate * self._most_wait_s)))

    def _full(self, permit: Permit, now_s: float, rate: float, left_s: float | None) -> RouterError:
        """`left_s`: of a request that was refused before, how early it comes."""
        if not left_s:
            left_s = self._promise(permit, now_s, rate, again=left_s == 0.0)
        why = f"{self.slots.running} requests are in flight, the most allowed"
        if waiting := self.slots.waiting:
            why += f", and {waiting} wait"
        return self._refused("in_flight", Overloaded(why, retry_after_s=left_s))

    def _promise(self, permit: Permit, now_s: float, rate: float, *, again: bool) -> float:
        wait_s = (len(self._queue) + 1) / rate
        return self._promises.make(permit.name, now_s, wait_s, rate, again=again, since_s=permit.since_s)

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
        wait_s = self._promise(permit, now_s, self._rate.per_second(now_s), again=True)
        why = f"no slot became free within {self._most_wait_s:g} s; {self.slots.running} requests are in flight"
        error = self._refused("queue_time", Overloaded(why, retry_after_s=wait_s))
        if tell is not None:
            tell(error)

    def _wake(self) -> None:
        """A slot is free, and a request waits for it, or for room in a member. Not begun at once: the caller is in the
        midst of another's end."""
        if not self._due and self._loop is not None:
            self._due = True
            self._loop.call_soon(self._let_in)

    def _let_in(self) -> None:
        """The loop's call: begin those that wait, as slots and members allow."""
        self._due = False
        if self.slots.lined and self.lines.look():
            self._wake()
        if self.slots.waiting:
            self._begin_some()

    def _begin_some(self) -> None:
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
