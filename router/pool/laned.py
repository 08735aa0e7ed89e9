"""A member that has a `Lane`: the state that native decisions read."""

from typing import Final

from router.native.lane import Lane
from router.pool.base import MemberPhase
from router.pool.load import LoadTracker

#: Its engine lives, whether new requests are welcome or not.
ALIVE: Final[frozenset[MemberPhase]] = frozenset({"ready", "asleep", "draining"})


class Laned:
    """Its phase, name, price and place in the pool, shown in its lane and in the state that Python reads."""

    name: str
    lane: Lane
    _load: LoadTracker
    _phase: MemberPhase = "waiting"
    _drained = False

    @property
    def phase(self) -> MemberPhase:
        return self._phase

    @phase.setter
    def phase(self, phase: MemberPhase) -> None:
        """Ready, of one that is drained, is draining."""
        self._phase = "draining" if phase == "ready" and self._drained else phase
        self.lane.ready = self._phase == "ready"

    @property
    def drained(self) -> bool:
        """It is to get no new requests, in whatever phase it is."""
        return self._drained

    def drain(self, drained: bool) -> None:
        """Give it no new requests, or some again; those under way go on."""
        self._drained = drained
        if self._phase in ("ready", "draining"):
            self.phase = "ready"

    def placed(self, name: str, usd_per_s: float, canary_of: int, canary_weight: float) -> None:
        """What it is in the pool from now on. `canary_of`: an index, where the weight is above 0."""
        self.name = name
        self.lane.usd_per_s = usd_per_s
        self.lane.canary_of, self.lane.canary_weight = canary_of, canary_weight
        self._load.placed(name, usd_per_s, canary_of, canary_weight)
