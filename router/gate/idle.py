"""Leave to start for work that nobody waits for: slots of its own, so that it takes none of the requests that clients
wait for. Whether there is slack for it is asked before (`pipeline.batch.slack`).
"""

from time import perf_counter

from router.gate.permit import Permit, State
from router.native.slots import Slots

_MANY = 1_000_000


class IdleLane:
    """Makes the permits of such work, and counts it. Called from the event loop's thread."""

    def __init__(self, most_bytes: int) -> None:
        """Of the bodies of what runs at once; how many run is decided by member."""
        self.slots = Slots(_MANY, most_bytes, _nobody)

    def take(self, body_bytes: int) -> Permit | None:
        """None: its body has no room now. One that is larger than all may be runs alone."""
        slots = self.slots
        if slots.closed or (slots.running and not slots.fits(body_bytes)):
            return None
        slots.take(body_bytes)
        return Permit(self, State.RUNNING, body_bytes, perf_counter())

    def settle(self, permit: Permit) -> None:
        """See `Permit.settle`."""
        state, permit.state = permit.state, State.SETTLED
        permit.drop_body()
        if state is State.RUNNING:
            self.slots.end(perf_counter() - permit.began_s)

    def close(self) -> None:
        """Nothing starts from now on."""
        self.slots.close()


def _nobody() -> None:
    """Nothing waits here for a slot."""
