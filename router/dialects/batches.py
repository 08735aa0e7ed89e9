"""The body of `POST /v1/batches`, as OpenAI has it. Fields that are not named here are passed over."""

import re

import msgspec

from router.dialects.own import read_own
from router.errors import BadRequest

#: Of `metadata`, as OpenAI's.
_MOST_PAIRS, _LONGEST_KEY, _LONGEST_VALUE = 16, 64, 512
#: Of `expires_after`, in seconds, as OpenAI's.
LEAST_EXPIRY_S, MOST_EXPIRY_S = 3_600, 30 * 86_400
_WINDOW = re.compile(r"([1-9][0-9]{0,3})([mhd])")
_UNIT_S = {"m": 60, "h": 3_600, "d": 86_400}
_LONGEST_WINDOW_S = 30 * 86_400


class ExpiresAfter(msgspec.Struct, frozen=True):
    anchor: str
    seconds: int


class NewBatch(msgspec.Struct, frozen=True):
    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: dict[str, str] | None = None
    output_expires_after: ExpiresAfter | None = None

    @property
    def window_s(self) -> int:
        """`completion_window` in seconds. Raises `BadRequest`."""
        match = _WINDOW.fullmatch(self.completion_window)
        seconds = int(match[1]) * _UNIT_S[match[2]] if match else 0
        if not 0 < seconds <= _LONGEST_WINDOW_S:
            what = f"expected `24h`, or another time up to `30d`, got {self.completion_window[:40]!r}"
            raise BadRequest(f"`completion_window`: {what}", param="completion_window")
        return seconds


_decode = msgspec.json.Decoder(NewBatch).decode


def read_batch(body: bytes) -> NewBatch:
    """Raises `BadRequest`."""
    new = read_own(_decode, body)
    metadata = new.metadata or {}
    if len(metadata) > _MOST_PAIRS:
        raise BadRequest(f"`metadata`: expected at most {_MOST_PAIRS} pairs, got {len(metadata)}", param="metadata")
    for key, value in metadata.items():
        if len(key) > _LONGEST_KEY or len(value) > _LONGEST_VALUE:
            what = f"expected keys of at most {_LONGEST_KEY} characters and values of at most {_LONGEST_VALUE}"
            raise BadRequest(f"`metadata`: {what}", param="metadata")
    if new.output_expires_after is not None:
        after = new.output_expires_after
        expiry_s(after.anchor, after.seconds, "output_expires_after")
    return new


def expiry_s(anchor: str, seconds: int, param: str) -> int:
    """How long a file is kept. Raises `BadRequest`."""
    if anchor != "created_at":
        raise BadRequest(f"`{param}.anchor`: expected `created_at`, got {anchor[:40]!r}", param=f"{param}.anchor")
    if not LEAST_EXPIRY_S <= seconds <= MOST_EXPIRY_S:
        what = f"expected {LEAST_EXPIRY_S} to {MOST_EXPIRY_S}, got {seconds if abs(seconds) < 10**18 else 'more'}"
        raise BadRequest(f"`{param}.seconds`: {what}", param=f"{param}.seconds")
    return seconds
