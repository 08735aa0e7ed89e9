"""Objects that wait, in the order in which they are to start (csrc/fair_queue.hpp): lowest priority number first;
within it in rounds, in each of which every key that has something waiting gets one; within a round, and of one key, the
earliest deadline first, then what has waited longest.

Each step takes constant time, or that of a search among those of one key, or among the keys. One thread at a time.
"""

from typing import Generic, TypeVar

T = TypeVar("T")

class FairQueue(Generic[T]):
    def __init__(self) -> None: ...
    def __len__(self) -> int: ...
    def add(self, item: T, key: str, priority: int = 0, deadline_s: float = ..., since_s: float = 0.0) -> int:
        """Its place, which `remove` wants. `priority` has 32 bits. `deadline_s` (default: none) and `since_s`, since
        when it waits, are of one clock. Raises ValueError where one of them is NaN, OverflowError."""

    def next(self) -> T:
        """What comes first; it waits no longer. Raises LookupError where nothing waits."""

    def last(self) -> T:
        """What would come last: of the highest priority number, of the key that has most waiting there, its latest.
        It waits on. Raises LookupError where nothing waits."""

    def remove(self, place: int, item: T) -> None:
        """It gives up. Raises LookupError where it does not wait there."""

    def ahead(self, priority: int = 0) -> int:
        """How many wait whose priority number is no higher."""
