"""A member that has a `Lane`: the state that native decisions read."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypedDict

from router.ipc.messages import Load
from router.native.lane import Lane
from router.pool.base import MemberPhase
from router.pool.load import LoadTracker
from router.pool.sleep import Sleeper, SleepState
from router.types import Cause

if TYPE_CHECKING:
    from router.native.lane import Figures

#: Its engine lives, whether new requests are welcome or not.
ALIVE: Final[frozenset[MemberPhase]] = frozenset({"ready", "asleep", "draining"})
ASLEEP: Final[frozenset[MemberPhase]] = frozenset({"asleep", "parked"})
#: Requests of which the queue of a sleeping engine is made up, at the most: below the bound where it takes no more.
_MOST_WAITING: Final = 1_000


def waiting_for(seconds: float, figures: "Figures") -> Load:
    """The load of an engine whose queue takes so long: a decision counts waiting in requests of mean length. One whose
    speed is not known tells nothing."""
    one_s = figures["mean_output_tokens"] * figures["time_per_output_token_s"]
    ahead = math.ceil(seconds / one_s) if one_s > 0 else 0
    return Load(
        waiting=min(ahead, _MOST_WAITING),
        prefix_hit=1.0,  # nothing of them is read
        prefill_tokens_per_s=figures["prefill_tokens_per_s"],
        time_per_output_token_s=figures["time_per_output_token_s"],
    )


def names_of(member: object) -> tuple[str, ...]:
    """By which an operator asks for a member: its own, and the model's."""
    return (member.name, member.model) if isinstance(member, Laned) else ()


class SleepStatus(TypedDict, total=False):
    """Fields of `MemberStatus`."""

    sleep: SleepState
    wake_s: float
    sleeps: int


class Laned:
    """Its phase, name, price and place in the pool, shown in its lane and in the state that Python reads."""

    name: str
    model: str  #: by which clients ask for it; its name, but where it is one of several engines
    lane: Lane
    _load: LoadTracker
    _phase: MemberPhase = "waiting"
    _drained = False
    verbs: tuple[str, ...] = ()  #: of its host's Hello: what it can do beside answering
    sleeper: Sleeper | None = None  #: of one that sleeps when it is idle
    _told_asleep = False  #: its load is that of one that sleeps
    on_drain: Callable[[], None] | None = None  #: called before it takes no new requests

    @property
    def phase(self) -> MemberPhase:
        return self._phase

    @phase.setter
    def phase(self, phase: MemberPhase) -> None:
        """Ready, of one that is drained, is draining."""
        self._phase = "draining" if phase == "ready" and self._drained else phase
        self.lane.ready = self.welcome

    @property
    def welcome(self) -> bool:
        """Requests may come: it is ready, or sleeps and wakes for them."""
        return self._phase == "ready" or (self.wakeable and not self._drained)

    @property
    def wakeable(self) -> bool:
        """It sleeps, or is on its way from or to it, and a request is kept until it is awake."""
        sleeper = self.sleeper
        if sleeper is None or sleeper.state in ("awake", "away"):
            return False
        return self._phase in ASLEEP or (sleeper.state == "waking" and self._phase in ("starting", "restarting"))

    @property
    def load(self) -> LoadTracker:
        return self._load

    @property
    def most_running(self) -> int:
        """Sequences that the engine runs at once; 0: it has not said."""
        return self._load.most_running

    @property
    def has_room(self) -> bool:
        """A request that goes to it now starts at once, or next; of one that sleeps, wakes it."""
        return self.wakeable or self._load.room

    @property
    def drained(self) -> bool:
        """It is to get no new requests, in whatever phase it is."""
        return self._drained

    def drain(self, drained: bool) -> None:
        """Give it no new requests, or some again; those under way go on."""
        if drained and self.on_drain is not None:
            self.on_drain()
        self._drained = drained
        if self._phase in ("ready", "draining"):
            self.phase = "ready"
        self.lane.ready = self.welcome

    def settle(self, now_s: float) -> None:
        """Its sleeper is in another state. While it sleeps its predicted waiting is the time that it takes to wake."""
        self.lane.ready = self.welcome
        if self.wakeable and self.sleeper is not None:
            self._told_asleep = True
            self._load.reported(waiting_for(self.sleeper.expected_s(now_s), self._load.figures()))
        elif self._told_asleep:
            self._told_asleep = False
            self._load.forget()

    def sleep_status(self) -> SleepStatus:
        sleeper = self.sleeper
        return {} if sleeper is None else {"sleep": sleeper.state, "wake_s": sleeper.wake_s, "sleeps": sleeper.sleeps}

    def charge(self, surcharge: float, cause: Cause) -> None:
        """The price of its devices stands so far above the bought one, and why."""
        self.lane.charge(surcharge, cause)
        self._load.charged(surcharge, cause)

    def placed(self, name: str, model: str, usd_per_s: float, canary_of: int, canary_weight: float) -> None:
        """What it is in the pool from now on. `canary_of`: a model's index, where the weight is above 0."""
        self.name, self.model = name, model
        self.lane.usd_per_s = usd_per_s
        self.lane.canary_of, self.lane.canary_weight = canary_of, canary_weight
        self._load.placed(model, usd_per_s, canary_of, canary_weight)
