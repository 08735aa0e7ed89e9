"""The body of `/v1/feedback`. All of its fields are ours, so one that is unknown is refused, as in no other body."""

import msgspec

from router.dialects.own import read_own
from router.observe.feedback import Said

_decode = msgspec.json.Decoder(Said).decode


def read_feedback(body: bytes) -> Said:
    """Raises `BadRequest`."""
    return read_own(_decode, body)
