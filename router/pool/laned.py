"""A member that has a `Lane`: the state that native decisions read."""

from router.native.lane import Lane
from router.pool.base import MemberPhase


class Laned:
    """Its phase, shown in its lane."""

    lane: Lane
    _phase: MemberPhase = "waiting"

    @property
    def phase(self) -> MemberPhase:
        return self._phase

    @phase.setter
    def phase(self, phase: MemberPhase) -> None:
        self._phase = phase
        self.lane.ready = phase == "ready"
