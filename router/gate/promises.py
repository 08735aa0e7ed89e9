"""Refused requests that were told when to come back: they find a place when they do.

Without it, clients that ask again at once take every place as it becomes free, and those that wait as they are told get
none. A request is known again by its key and its body, which a client sends unchanged when it retries. Promises are
made for different moments, at 0.9 of the rate at which slots become free. A client that comes early keeps its promise,
and gains little (`gate`).
"""

import hashlib
from collections import OrderedDict
from typing import NamedTuple

#: Of the slots that become free, so many are promised.
SHARE = 0.9
#: Nothing is promised further ahead, nor to more requests.
MOST_S = 600.0
MOST_PROMISES = 65_536
#: Of a body, its first and its last bytes tell it from others, with its length.
_SAMPLE_BYTES = 4096
#: How late a client may come: `retry-after` is in whole seconds, and the way takes time; and as a share of the wait.
_LATE_S = 3.0
_LATE_SHARE = 0.5
#: Clocks differ in their milliseconds.
_EARLY_S = 0.002


def name_of(key_id: str, body: bytes) -> bytes:
    """What a request is known by, 16 bytes. Takes microseconds, of a body of any size."""
    name = hashlib.blake2b(b"%b %d " % (key_id.encode(), len(body)), digest_size=16)
    name.update(body[:_SAMPLE_BYTES])
    name.update(body[-_SAMPLE_BYTES:])
    return name.digest()


class _Promise(NamedTuple):
    from_s: float
    until_s: float
    again: bool  #: it came on time once, or waited, and got no slot
    since_s: float  #: it was refused for the first time


class Promises:
    """By name: from when until when the request is expected. All times are of one clock, in seconds."""

    __slots__ = ("_again", "_promises")

    def __init__(self) -> None:
        self._promises: OrderedDict[bytes, _Promise] = OrderedDict()
        self._again = 0  #: promises of that kind

    def __len__(self) -> int:
        return len(self._promises)

    def forget_late(self, now_s: float) -> None:
        """Those whose clients did not come."""
        while self._promises:
            name, promise = next(iter(self._promises.items()))
            if promise.until_s >= now_s:
                return
            self.kept(name, now_s)

    def left_s(self, name: bytes, now_s: float) -> float | None:
        """How long the request has still to wait; 0: it comes on time. None: nothing was promised to it."""
        promise = self._promises.get(name)
        if promise is None or promise.until_s < now_s:
            return None
        left_s = promise.from_s - now_s
        return left_s if left_s > _EARLY_S else 0.0

    def since_s(self, name: bytes) -> float:
        """When a request to which something is promised was refused for the first time."""
        return self._promises[name].since_s

    def kept(self, name: bytes, now_s: float) -> float:
        """The request needs it no longer. Since when it wants to start: now, where nothing was promised to it, or it
        comes early or late."""
        promise = self._promises.pop(name, None)
        if promise is None:
            return now_s
        self._again -= promise.again
        on_time = promise.from_s - _EARLY_S <= now_s <= promise.until_s
        return promise.since_s if on_time else now_s

    def make(
        self, name: bytes, now_s: float, wait_s: float, rate: float, *, again: bool, since_s: float | None = None
    ) -> float:
        """The seconds after which the request should come back: `wait_s`, which the queue takes, and the time for those
        to whom slots are promised; `rate`: slots freed in a second. `again`: it came on time and found no place, or
        waited in vain, and goes before those that did not. `since_s`: when it wanted to start first; None: as was
        remembered, or now."""
        if since_s is None:
            since_s = self._promises[name].since_s if name in self._promises else now_s
        self.kept(name, now_s)
        ahead = self._again if again else len(self._promises)
        wait_s += ahead / (SHARE * rate)
        if wait_s > MOST_S or len(self._promises) >= MOST_PROMISES:
            return min(wait_s, MOST_S)
        until_s = now_s + wait_s + _LATE_S + _LATE_SHARE * wait_s
        self._promises[name] = _Promise(now_s + wait_s, until_s, again, since_s)
        self._again += again
        return wait_s
