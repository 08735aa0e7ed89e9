"""Wakes an event loop at a planned moment, to some tens of microseconds.

asyncio's and uvloop's own timers count whole milliseconds; a load generator that is half a millisecond late at every
request would measure itself. Linux's timerfd counts nanoseconds (timerfd_create(2)); Python has it from 3.13 only.
"""

import asyncio
import contextlib
import ctypes
import os
from collections.abc import Callable

_MONOTONIC = 1  # CLOCK_MONOTONIC, which is `time.perf_counter`'s clock
_ABSOLUTE = 1  # TFD_TIMER_ABSTIME
_FLAGS = os.O_NONBLOCK | os.O_CLOEXEC


class _Spec(ctypes.Structure):
    """`struct itimerspec`: interval, then first expiry; each seconds and nanoseconds."""

    _fields_ = [(name, ctypes.c_long) for name in ("every_s", "every_ns", "at_s", "at_ns")]


class Alarm:
    """Calls `ring` once after each `set`, never early."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop, self._ring, self._libc = loop, ring, ctypes.CDLL(None, use_errno=True)
        self._spec = _Spec()
        self._fd = self._libc.timerfd_create(_MONOTONIC, _FLAGS)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        loop.add_reader(self._fd, self._read)

    def set(self, at_s: float) -> None:
        """`at_s`: of `time.perf_counter`. A moment that has passed rings at once."""
        at_ns = max(1, int(at_s * 1e9))
        self._spec.at_s, self._spec.at_ns = divmod(at_ns, 1_000_000_000)
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(self._spec), None):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def close(self) -> None:
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def _read(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it was set anew after it had rung
            os.read(self._fd, 8)
        self._ring()
