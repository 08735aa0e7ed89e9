"""Lines of the journal, written natively: what `observe.record.Record` says of a request that native code has seen to
its end, without making the record. Twenty times faster, so that a journal costs a request little.
"""

from typing import Protocol

from router.native.policy import Numbers

class Finished(Protocol):
    """A chat request all of whose steps were native (`native.request.BaseRequest`, which is read without Python); or
    any object that says the same of one."""

    numbers: Numbers | None
    finished: bool
    decision_id: str
    told_id: str
    asked: bytes
    key_id: str
    session_id: str
    finish_reason: str | None
    stream: bool
    received_s: float
    overhead_s: float
    ended_s: float
    usage: tuple[int, int, int]
    timings: tuple[float, float]
    @property
    def first_s(self) -> float | None: ...

class RecordLines:
    """Called from one thread."""

    def __init__(self, version: int) -> None:
        """`version`: of the record's schema."""

    def put(self, ended: Finished, epoch_s: float) -> None:
        """Add its line. `epoch_s`: `time.time()` less `time.perf_counter()`, now. Raises `ValueError` of what has not
        finished, `UnicodeEncodeError` of a text that is no UTF-8; then nothing is added."""

    def take(self) -> bytes:
        """The lines since the last call."""
