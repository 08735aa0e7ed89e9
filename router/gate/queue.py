"""The requests that wait for a slot, in the order in which they get one (`native.waiting`): lowest priority number
first, fair between keys, earliest deadline first, oldest first.

How many may wait, and how long, is the gate's (`gate`).
"""

from router.gate.permit import Permit
from router.native.waiting import FairQueue


class Queue:
    """Each permit is added once, and leaves once: by `next` or by `remove`."""

    def __init__(self) -> None:
        self._waiting: FairQueue[Permit] = FairQueue()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, permit: Permit) -> None:
        permit.place = self._waiting.add(permit, permit.key_id, permit.priority, permit.deadline_s, permit.entered_s)

    def next(self) -> Permit:
        """Which request gets the slot that is free; it waits no longer. Raises `LookupError` where none waits."""
        return self._waiting.next()

    def last(self) -> Permit:
        """Which would get one last. Raises `LookupError` where none waits."""
        return self._waiting.last()

    def remove(self, permit: Permit) -> None:
        """It gave up: its client left, its time is over. Raises `LookupError` where it does not wait."""
        self._waiting.remove(permit.place, permit)
