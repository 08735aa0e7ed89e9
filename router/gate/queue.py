"""In which order requests that wait for a slot get one. Another order is another class with these methods.

How many may wait, and how long, is the gate's (`gate`).
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

from router.gate.permit import Permit


class Order(Protocol):
    """Of the requests that wait. Each is added once, and leaves once: by `next` or by `remove`."""

    def add(self, permit: Permit) -> None: ...

    def next(self) -> Permit:
        """Which request gets the slot that is free; it waits no longer. Raises `LookupError` where none waits."""
        ...

    def remove(self, permit: Permit) -> None:
        """It gave up: its client left, its time is over. Raises `LookupError` where it does not wait."""
        ...

    def __len__(self) -> int: ...


class OldestFirst:
    """First in, first out. Every step takes constant time."""

    def __init__(self) -> None:
        self._waiting: OrderedDict[Permit, None] = OrderedDict()

    def add(self, permit: Permit) -> None:
        self._waiting[permit] = None

    def next(self) -> Permit:
        return self._waiting.popitem(last=False)[0]

    def remove(self, permit: Permit) -> None:
        del self._waiting[permit]

    def __len__(self) -> int:
        return len(self._waiting)


#: Makes the order of a gate.
MakeOrder = Callable[[], Order]
