"""Answers that clients may rate, on their way from a running server to the one that takes over: a file in memory, whose
descriptor is passed. There may be too many for a message.
"""

import os
from collections.abc import Sequence

import msgspec

from router.observe.feedback import Rateable

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(list[Rateable]).decode


def packed(answers: Sequence[Rateable]) -> int:
    """The descriptor, which is the caller's to close. Raises `OSError`."""
    descriptor = os.memfd_create("headgate-answers", os.MFD_CLOEXEC)
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(_encode(answers))
    return descriptor


def unpacked(descriptor: int) -> list[Rateable]:
    """Closes it. Raises `OSError`, `msgspec.MsgspecError`."""
    with os.fdopen(descriptor, "rb") as file:
        file.seek(0)
        return _decode(file.read())
