"""Native readers as functions of Python values, for tests that compare them with those in Python.

None always means: not plain, left to Python.
"""

from router.config import Limits
from router.native.spec import TurnWeights
from router.steps import StepSums
from router.types import Segment

def read_request(data: bytes, start: bytes, limits: Limits) -> tuple[bytes, bytes, bytes, bytes, bytes, bytes] | None:
    """Body, `authorization`, `x-api-key`, the request's id as it is echoed, `x-session-id` and `traceparent` of one
    whole request whose first line is `start`; empty where there is none."""

def read_chat(
    body: bytes, turns: TurnWeights
) -> tuple[str, list[Segment], bool, int | None, int, frozenset[str]] | None:
    """Model (empty where none is named), weighted texts, `stream`, `max_tokens`, `n` and needs of a chat body."""

def submit_frame(id: int, body: bytes, request_id: bytes, traceparent: bytes = b"") -> bytes:
    """A whole frame, length included."""

def read_chunks(frame: bytes) -> list[tuple[int, bytes]] | None:
    """Of a Chunks frame without its length."""

def read_done(frame: bytes) -> tuple[int, tuple[int, int, int], tuple[float, float], str] | None:
    """Id, usage, timings and finish reason of a Done frame without its length."""

def read_load(frame: bytes) -> tuple[int, int, float, float, float, float, int, StepSums] | None:
    """Running, waiting, cache use, prefix hits, prefill tokens/s, seconds an output token, tokens held and step sums of
    a Load frame."""
