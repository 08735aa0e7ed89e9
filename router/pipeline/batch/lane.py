"""The idle lane: begins the lines of batches where members have slack, and takes them back where they have none.

Looked at while there are lines: every 10 ms, and as lines end. A line goes the one life of a request: decided as any
other, handed over, tried again, in the ledger. It has a slot of its own kind (`gate.idle`), and an engine that
schedules by priority runs it last.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from router.config import Batches as Settings
from router.errors import OUR_FAULT, EngineLost, RouterError, Withdrawn
from router.gate.gate import Gate
from router.gate.idle import IdleLane
from router.gate.permit import Permit
from router.pipeline.batch.line import Line
from router.pipeline.batch.results import Where
from router.pipeline.batch.run import Run
from router.pipeline.batch.slack import Seen, Slack, may_read, reading_bound, reads_s, slack
from router.pipeline.request import Request
from router.pipeline.sink import Sink
from router.pipeline.threads import LARGE_BODY_BYTES
from router.pool.base import PoolMember
from router.pool.engine import EngineMember
from router.types import Decision, MemberState, Query

log = logging.getLogger("headgate.batches")

LOOK_S = 0.01
_IDLE_LOOK_S = 0.05  #: while no line runs, and none can be begun
#: A line that waits is decided anew after so long: its choice may have become another one.
_DECIDED_S = 5.0
#: Of bodies that are decided for in one look: scoring takes time of the event loop.
_MOST_DECIDED_BYTES = 64 * 1024
#: A long prompt is begun once no live request has come for as long as it takes to read, up to this. And for so long
#: after a live request lines are read as if the next one came now.
_LONGEST_QUIET_S = 5.0
#: How long a line waits that nobody can take, or whose engine failed, the first time; then twice as long.
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0
#: One that made room.
_ROOM_PAUSE_S = 0.05


class Desk(Protocol):
    """The pipeline, as far as lines need it (`pipeline.router.Router`)."""

    pool: tuple[PoolMember, ...]  #: each engine

    @property
    def gate(self) -> Gate: ...

    @property
    def scores_slowly(self) -> bool:
        """A decision takes milliseconds: it is not made twice."""
        ...

    def decide(self, what: Query) -> Decision: ...

    def engine_of(self, decision: Decision) -> PoolMember: ...

    def submit(self, query: Query, body: bytes, sink: Sink, *, permit: Permit) -> Request: ...


class Place:
    """One member during one look."""

    def __init__(
        self,
        member: PoolMember,
        state: MemberState,
        slack: Slack,
        reading_tokens: int,
        lines: list[Line],
        *,
        live: bool,
    ) -> None:
        """`live`: it has requests that clients wait for."""
        self.member = member
        self.prefill_tokens_per_s = state.prefill_tokens_per_s
        self.ready = state.ready
        self.start, self.withdraw = slack.start, slack.withdraw
        self.live = live
        self.step_s = state.time_per_output_token_s
        self.reading_tokens = reading_tokens
        self.lines = lines


class Lane:
    """Called from the event loop's thread."""

    def __init__(
        self, desk: Desk, settings: Settings, most_bytes: int, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`most_bytes`: of the bodies of lines that run."""
        self._desk = desk
        self._settings = settings
        self._clock = clock
        self.runs: list[Run] = []
        self.gate = IdleLane(most_bytes)
        self.closed = False
        self.put_back = 0  #: how often a line made room, since the start
        self._timer: asyncio.TimerHandle | None = None
        self._last_ids: dict[PoolMember, int] = {}  #: of each member's lane, after the last look
        self._live_s: dict[PoolMember, float] = {}  #: when a live request came to a member last
        self._undecided_bytes = 0  #: that may still be decided for in this look

    @property
    def running(self) -> int:
        return sum(len(run.running) for run in self.runs)

    def add(self, run: Run) -> None:
        self.runs.append(run)
        self.stir()

    def remove(self, run: Run) -> None:
        self.runs.remove(run)

    def stir(self) -> None:
        """Look soon."""
        if self._timer is None and self.runs and not self.closed:
            self._timer = asyncio.get_running_loop().call_later(0, self._look)

    def withdraw(self) -> None:
        """Put all lines back and begin no more: the server ends. Idempotent."""
        self.closed = True
        self.gate.close()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for line in self._lines():
            self._take_back(line, 0.0)

    # Owner of lines

    def answered(self, line: Line) -> None:
        try:
            where, result = line.result()
        except Exception:
            log.exception("the answer to %s could not be read", line.query.request_id)
            where, result = line.result_of(RouterError(OUR_FAULT))
        self._finish(line, where, result)

    def failed(self, line: Line, error: RouterError) -> None:
        if self.closed:  # the server ends, which is not the line's fault
            self._put_back(line, 0.0)
            return
        if error.status in (429, 503):  # nobody can take it now
            self._put_back(line, error.retry_after_s or _PAUSE_S)
            return
        line.tries += error.status >= 500
        if error.status < 500 or isinstance(error, EngineLost) or line.tries >= self._settings.tries:
            self._finish(line, *line.result_of(error))
        else:
            self._put_back(line, min(_PAUSE_S * 2.0**line.tries, _LONGEST_PAUSE_S))

    # Within

    def _look(self) -> None:
        self._timer, pause_s = None, LOOK_S
        try:
            places = self._places()
            self._make_room(places)
            self._begin_lines(places)
        except Exception:  # a later look may do better
            log.exception("the batches could not be looked at")
            pause_s = _PAUSE_S
        self._last_ids = self._ids()
        for run in self.runs:
            run.read_ahead()
        if self.running or any(run.startable for run in self.runs):
            pause_s = max(pause_s, LOOK_S if self.running else _IDLE_LOOK_S)
            self._timer = asyncio.get_running_loop().call_later(pause_s, self._look)

    def _ids(self) -> dict[PoolMember, int]:
        return {member: member.lane.last_id for member in self._desk.pool if isinstance(member, EngineMember)}

    def _places(self) -> list[Place]:
        lines: dict[PoolMember, list[Line]] = {}
        for line in self._lines():
            if (member := line.member) is not None:
                lines.setdefault(member, []).append(line)
        gate_waits = self._desk.gate.slots.waiting > 0
        now_s = self._clock()
        return [self._place(member, lines.get(member, []), gate_waits, now_s) for member in self._desk.pool]

    def _place(self, member: PoolMember, lines: list[Line], gate_waits: bool, now_s: float) -> Place:
        state = member.state()
        seen = Seen(
            ready=state.ready,
            own=len(lines),
            in_flight=len(member.lane.calls) if isinstance(member, EngineMember) else len(lines),
            most_running=member.most_running if isinstance(member, EngineMember) else 0,
            kv_use=state.kv_use,
            live_waits=gate_waits or (isinstance(member, EngineMember) and member.load.lined > 0),
        )
        reading = sum(line.prompt_tokens for line in lines if now_s < line.reading_until_s)
        free = slack(seen, self._settings.running)
        return Place(member, state, free, reading, lines, live=seen.in_flight > seen.own)

    def _make_room(self, places: Sequence[Place]) -> None:
        ids, now_s = self._ids(), self._clock()
        self._live_s = {place.member: self._live_s[place.member] for place in places if place.member in self._live_s}
        for place in places:
            youngest = sorted(place.lines, key=lambda line: line.begun_s, reverse=True)
            back = youngest[: place.withdraw]
            id = ids.get(place.member, 0)
            if id > self._last_ids.get(place.member, id):  # live requests have come
                self._live_s[place.member] = now_s
                back += [line for line in youngest[place.withdraw :] if self._is_long(line, now_s)]
            for line in back:
                self.put_back += 1
                line.put_back += 1
                pause_s = max(_ROOM_PAUSE_S, line.reading_until_s - line.begun_s) * 2.0 ** min(line.put_back, 8)
                self._take_back(line, min(pause_s, _LONGEST_PAUSE_S))
                place.start = 0

    def _is_long(self, line: Line, now_s: float) -> bool:
        """Its prompt takes several steps, and is still being read."""
        return line.prompt_tokens > self._settings.prefill_tokens and now_s < line.reading_until_s

    def _begin_lines(self, places: Sequence[Place]) -> None:
        """The oldest batch first; a line that has to wait holds up no other."""
        now_s, self._undecided_bytes = self._clock(), _MOST_DECIDED_BYTES
        for run in self.runs:
            if not run.startable:
                continue
            left: list[Line] = []
            while run.ready and any(place.start > 0 for place in places):
                line = run.ready.popleft()
                if line.again_s > now_s or not self._begin(line, run, places, now_s):
                    left.append(line)
            run.ready.extendleft(reversed(left))

    def _begin(self, line: Line, run: Run, places: Sequence[Place], now_s: float) -> bool:
        """False: it waits on. Else it was begun, or refused: it has its result, or was put back."""
        try:
            if not self._has_place(line, places, now_s) or (permit := self.gate.take(len(line.body))) is None:
                return False
        except Exception as error:  # what `decide` raises
            run.running.add(line)
            self.failed(line, _known(error, line))
            return True
        run.running.add(line)
        line.begin(self, now_s)
        try:
            line.ticket = self._desk.submit(line.query, line.body, line, permit=permit)
        except Exception as error:
            permit.settle()
            line.owner = None
            self.failed(line, _known(error, line))
        else:
            self._note_place(line, places, now_s)
        return True

    def _has_place(self, line: Line, places: Sequence[Place], now_s: float) -> bool:
        """Whether the member that would get it has slack. Raises `RouterError`."""
        if self._desk.scores_slowly or len(line.body) > LARGE_BODY_BYTES:  # it might go to any of them
            return not any((place.ready and place.start <= 0) for place in places) and not any(
                each.member is None for each in self._lines()
            )
        place = _of(line.wanted, places)
        if place is None or now_s - line.wanted_s >= _DECIDED_S:
            if self._undecided_bytes <= 0:
                return False
            self._undecided_bytes -= len(line.body)
            engine = self._desk.engine_of(self._desk.decide(line.query))
            place = next(place for place in places if place.member is engine)
            line.wanted, line.wanted_s = place.member, now_s
        return self._may_read(line, place, now_s)

    def _may_read(self, line: Line, place: Place, now_s: float) -> bool:
        if place.start <= 0:
            return False
        most = self._settings.prefill_tokens
        quiet_s = now_s - self._live_s.get(place.member, -math.inf)
        if line.prompt_tokens > most:
            if quiet_s < min(reads_s(line.prompt_tokens, place.prefill_tokens_per_s), _LONGEST_QUIET_S):
                return False
        elif place.live or quiet_s < _LONGEST_QUIET_S:
            most = reading_bound(most, place.prefill_tokens_per_s, place.step_s)
        return may_read(line.prompt_tokens, place.reading_tokens, most)

    def _note_place(self, line: Line, places: Sequence[Place], now_s: float) -> None:
        place = _of(line.member, places)
        if place is None:
            for each in places:
                each.start -= 1
            return
        place.start -= 1
        line.reading_until_s = now_s + reads_s(line.prompt_tokens, place.prefill_tokens_per_s)
        if line.reading_until_s > now_s:
            place.reading_tokens += line.prompt_tokens

    def _take_back(self, line: Line, pause_s: float) -> None:
        line.stop(Withdrawn("it made room for other requests"))
        self._put_back(line, pause_s)

    def _put_back(self, line: Line, pause_s: float) -> None:
        line.again_s = self._clock() + pause_s
        line.run.put_back(line)
        self.stir()

    def _finish(self, line: Line, where: Where, result: bytes) -> None:
        line.run.finished(line, where, result)
        self.stir()

    def _lines(self) -> list[Line]:
        return [line for run in self.runs for line in run.running]


def _of(member: PoolMember | None, places: Sequence[Place]) -> Place | None:
    """None: it is none of the pool."""
    return next((place for place in places if place.member is member), None)


def _known(error: Exception, line: Line) -> RouterError:
    if isinstance(error, RouterError):
        return error
    log.error("%s could not be begun", line.query.request_id, exc_info=error)
    return RouterError(OUR_FAULT)
