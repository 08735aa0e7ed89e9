"""One request's leave to start: it has a slot, or waits for one. Made by `Gate.take`, settled once.

(taken) --> running --settle--> settled
   |           ^                   ^
   |          turn                 |
   |           |                   |
   +------> waiting --settle, or its time is over
"""

import asyncio
from collections.abc import Callable
from enum import Enum, auto
from math import inf
from typing import Protocol

from router.errors import RouterError
from router.native.slots import Slots


class State(Enum):
    WAITING = auto()
    RUNNING = auto()
    SETTLED = auto()


class Place(Protocol):
    """Where a request that runs waits for room in a member (`lines`)."""

    def leave(self) -> None:
        """It waits no longer."""
        ...


class Granter(Protocol):
    """What a permit uses of the gate that made it (`gate.Gate`)."""

    slots: Slots

    def settle(self, permit: "Permit") -> None: ...


class Permit:
    """Of one request. `held_bytes`: of its body, counted as pending until `drop_body` or `settle`."""

    __slots__ = (
        "_gate",
        "began_s",
        "deadline_s",
        "entered_s",
        "held_bytes",
        "key_id",
        "line",
        "lined_s",
        "name",
        "on_refusal",
        "on_turn",
        "place",
        "priority",
        "since_s",
        "state",
        "timer",
        "waited_s",
    )

    def __init__(self, gate: Granter, state: State, held_bytes: int, now_s: float, name: bytes = b"") -> None:
        """`name`: what is remembered of a request that is refused (`promises`)."""
        self._gate = gate
        self.state = state
        self.held_bytes = held_bytes
        self.entered_s = self.began_s = now_s  #: by the gate's clock, in seconds: asked; got its slot
        self.since_s = now_s  #: it wants to start, be it that it was refused meanwhile and came back on time
        self.waited_s = 0.0  #: for a slot, and for room in a member; known once it waits no longer
        self.name = name
        self.key_id = ""
        self.priority = 0  #: lower starts earlier
        self.deadline_s = inf  #: by the gate's clock
        self.place = 0  #: in the gate's queue, while it waits there
        self.line: Place | None = None
        self.lined_s = 0.0  #: when it began to wait there; 0: it has not
        self.timer: asyncio.TimerHandle | None = None
        self.on_turn: Callable[[], None] | None = None
        self.on_refusal: Callable[[RouterError], None] | None = None

    @property
    def waiting(self) -> bool:
        return self.state is State.WAITING

    def wait(self, on_turn: Callable[[], None], on_refusal: Callable[[RouterError], None]) -> None:
        """Of a request that waits: one of the two is called, in a later turn of the event loop, unless it is settled
        before. What `on_turn` raises ends the request: `on_refusal` is called with an error then."""
        self.on_turn, self.on_refusal = on_turn, on_refusal

    def drop_body(self) -> None:
        """Its body is no longer kept. Harmless when called again."""
        held, self.held_bytes = self.held_bytes, 0
        if held:
            self._gate.slots.drop_body(held)

    def settle(self) -> None:
        """The request is over, or gives up waiting. Harmless when called again."""
        self._gate.settle(self)
