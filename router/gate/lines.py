"""Requests that were let in and wait until a member has room for them: a line for each member that is waited for.

Their model is chosen as room comes: whoever is first in a member's line then is decided for anew, by what is known by
then, and goes to that member, to another one that has room, or into that one's line. So does, at each look, whoever is
last in a line: others may be free by now, and it would wait the longest (`overflow`).

Looked at as requests end, and every `LOOK_S` while somebody waits: whatever gave room, or took it, is seen by then.
The order is that of the gate's queue. Where `most_wait_s` is given, those that would wait longer are refused, the last
one first, and told when to come back. Knows neither decisions nor engines. Called from one event loop's thread.
"""

import asyncio
import logging
from collections.abc import Callable, Hashable
from functools import partial
from typing import TYPE_CHECKING, Protocol

from router.errors import OUR_FAULT, Overloaded, RouterError
from router.gate.permit import Permit, State
from router.gate.promises import Promises
from router.gate.rate import FreedRate
from router.native.slots import Slots
from router.native.waiting import FairQueue
from router.observe.metrics import Metrics

if TYPE_CHECKING:
    from router.native.lane import Figures

log = logging.getLogger("headgate.gate")

LOOK_S = 0.05
#: Requests that are decided for in one turn of the event loop: each takes some 0.1 ms.
AT_ONCE = 16


class Load(Protocol):
    """What a line knows of its member's load (`native.lane.LaneLoad`)."""

    most_running: int
    lined: int

    @property
    def ends(self) -> int: ...

    @property
    def served_s(self) -> float: ...

    def figures(self) -> "Figures": ...


class Member(Hashable, Protocol):
    """What a line knows of its member (`pool.laned.Laned`)."""

    name: str
    on_drain: Callable[[], None] | None

    @property
    def load(self) -> Load: ...

    @property
    def welcome(self) -> bool:
        """New requests may go to it."""
        ...

    @property
    def has_room(self) -> bool:
        """One that goes to it now starts at once, or next."""
        ...


class Loop(Protocol):
    """What lines need of an event loop."""

    def call_soon(self, callback: Callable[[], None], /) -> object: ...

    def call_later(self, delay_s: float, callback: Callable[[], None], /) -> asyncio.TimerHandle: ...


class Waits:
    """One request in a line. `turn` is called as it is to be decided for; it is then in no line, and may enter one."""

    __slots__ = ("line", "name", "permit", "pinned", "place", "refuse", "turn")

    def __init__(
        self,
        permit: Permit,
        name: bytes,
        turn: Callable[[], None],
        refuse: Callable[[RouterError], None],
        *,
        pinned: bool,
    ) -> None:
        """`name`: what is remembered of it where it is refused (`promises`). `pinned`: no other member may have it."""
        self.permit, self.name = permit, name
        self.turn, self.refuse = turn, refuse
        self.pinned = pinned
        self.line: Line | None = None
        self.place = 0

    def leave(self) -> None:
        """It ends, or is refused."""
        if self.line is not None:
            self.line.lines.left(self)


class Line:
    """Of one member. How fast it moves is measured as the gate's rate is: by the ends of the member's requests."""

    def __init__(self, lines: "Lines", member: Member) -> None:
        self.lines = lines
        self.member = member
        self.queue: FairQueue[Waits] = FairQueue()
        known = member.load.figures()
        mean_s = known["mean_output_tokens"] * known["time_per_output_token_s"]
        self.rate = FreedRate(_Ends(member.load), mean_s) if mean_s > 0 else FreedRate(_Ends(member.load))

    def add(self, waits: Waits) -> None:
        permit = waits.permit
        waits.place = self.queue.add(waits, permit.key_id, permit.priority, permit.deadline_s, permit.since_s)
        waits.line, permit.line = self, waits
        self.told(1)

    def take(self, waits: Waits | None = None) -> Waits:
        """The first one, or this one: it waits here no longer."""
        if waits is None:
            waits = self.queue.next()
        else:
            self.queue.remove(waits.place, waits)
        waits.line = waits.permit.line = None
        self.told(-1)
        return waits

    def per_second(self, now_s: float) -> float:
        """How many of its requests the member begins."""
        self.rate.seen(now_s)
        return self.rate.per_second(now_s)

    def told(self, more: int) -> None:
        self.lines.slots.lined += more
        self.member.load.lined = len(self.queue)


class _Ends:
    """A member's load as `FreedRate` reads it."""

    def __init__(self, load: Load) -> None:
        self._load = load

    @property
    def freed(self) -> int:
        return self._load.ends

    @property
    def busy_s(self) -> float:
        return self._load.served_s

    @property
    def most(self) -> int:
        return self._load.most_running


class Lines:
    """Of one gate."""

    def __init__(
        self,
        slots: Slots,
        promises: Promises,
        metrics: Metrics,
        most_wait_s: float | None,
        clock: Callable[[], float],
        loop: Callable[[], Loop],
    ) -> None:
        self.slots = slots
        self._promises = promises
        self._metrics = metrics
        self._most_wait_s = most_wait_s
        self._clock = clock
        self._running_loop = loop
        self._lines: dict[Member, Line] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._released: Member | None = None  #: takes what waits for it, room or not
        self.barred: Member | None = None  #: whoever is decided for now has left its line, and may not wait there

    def admits(self, member: Member) -> bool:
        """Whether a request may go to the member now: it has room, and nobody waits for that."""
        return (member.has_room and not member.load.lined) or member is self._released

    def wait(self, member: Member, waits: Waits) -> bool:
        """Until the member has room. False: it would come last, and wait too long; it does not wait."""
        now_s = self._clock()
        line = self._line_of(member)
        waits.permit.lined_s = waits.permit.lined_s or now_s
        line.add(waits)
        if self._timer is None:
            self._timer = self._running_loop().call_later(LOOK_S, self._look_all)
        most_wait_s = self._most_wait_s
        return most_wait_s is None or self._shed(line, waits, most_wait_s, line.per_second(now_s))

    def refusal(self, member: Member, waits: Waits) -> Overloaded:
        """What is told to one that may not wait for the member, nor for any other."""
        line, most_wait_s, now_s = self._line_of(member), self._most_wait_s or 0.0, self._clock()
        rate, count = line.per_second(now_s), len(line.queue)
        over_s = max(0.0, (count + 1) / rate - most_wait_s)
        # Those who were told before may go to any member, as it may.
        promised = rate if waits.pinned else sum(each.per_second(now_s) for each in self._lines.values())
        since_s = waits.permit.since_s
        wait_s = self._promises.make(waits.name, now_s, over_s, promised, again=False, since_s=since_s)
        self._metrics.refused("wait")
        why = f"{count} requests wait for {member.name!r}, as many as it begins in {most_wait_s:g} s"
        return Overloaded(why, retry_after_s=wait_s)

    def left(self, waits: Waits) -> None:
        """It does not wait any more, and is not to be decided for."""
        assert waits.line is not None
        waits.line.take(waits)
        self._waited(waits)

    def look(self) -> bool:
        """Decide for those for whom there is room, or whose member takes none any more. Whether some are left: the
        next turn of the loop is theirs."""
        left, now_s = AT_ONCE, self._clock()
        for line in list(self._lines.values()):
            line.rate.seen(now_s)
            while left and len(line.queue) and (line.member.has_room or not line.member.welcome):
                self._turn(line, line.take())
                left -= 1
        return not left

    def release(self, member: Member) -> None:
        """It will take no new requests, and those that wait for it alone are not new: they go to it now."""
        line = self._lines.get(member)
        if line is None:
            return
        waiting = [line.take() for _ in range(len(line.queue))]
        self._released = member
        try:
            for waits in waiting:
                if waits.pinned:
                    self._turn(line, waits)
        finally:
            self._released = None
        for waits in waiting:
            if not waits.pinned:
                line.add(waits)

    # Within

    def _line_of(self, member: Member) -> Line:
        line = self._lines.get(member)
        if line is None:
            line = self._lines[member] = Line(self, member)
            member.on_drain = partial(self.release, member)
        return line

    def _look_all(self) -> None:
        """The timer's call. Whoever enters a line meanwhile needs no timer of its own."""
        more = False
        try:
            more = self.look()
            self._overflow()
        finally:
            delay_s = 0.0 if more else LOOK_S
            self._timer = self._running_loop().call_later(delay_s, self._look_all) if self._lines else None

    def _overflow(self) -> None:
        """Those that are last, where nobody is begun now; and lines in which nobody waits any more."""
        for line in list(self._lines.values()):
            if len(line.queue) and not line.queue.last().pinned and not line.member.has_room:
                self._turn(line, line.take(line.queue.last()))
            elif not len(line.queue):
                del self._lines[line.member]
                line.member.on_drain = None

    def _turn(self, line: Line, waits: Waits) -> None:
        """It is in no line. For it nobody of its member's line is ahead where there is room: it is the first."""
        load = line.member.load
        if line.member.has_room:
            load.lined = 0
        try:
            waits.turn()
        except Exception:  # the others that wait must still be begun
            log.exception("a request whose turn came could not be begun")
            waits.refuse(RouterError(OUR_FAULT))
        finally:
            load.lined = len(line.queue)
        if waits.permit.line is None:
            self._waited(waits)

    def _waited(self, waits: Waits) -> None:
        seconds = self._clock() - waits.permit.lined_s
        waits.permit.waited_s += seconds
        self._metrics.queue_seconds.observe(seconds)

    def _shed(self, line: Line, newest: Waits, most_wait_s: float, rate: float) -> bool:
        """Whether the newest one may stay."""
        while len(line.queue) > max(1.0, most_wait_s * rate):
            waits = line.take(line.queue.last())
            if waits is newest:
                return False
            self._running_loop().call_soon(partial(self._move, line, waits))
        return True

    def _move(self, line: Line, waits: Waits) -> None:
        """It is in no line since others came that start before it: to another member, or it is refused."""
        if waits.permit.state is State.SETTLED:
            return
        self.barred = line.member
        try:
            self._turn(line, waits)
        finally:
            self.barred = None
