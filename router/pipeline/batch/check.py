"""A batch's input, checked from its first line to its last before any of it is run; faults go to the error file.

Of each line 24 bytes are kept until all are read: a digest of its `custom_id`, by which those that stand twice are
found, and its number. Where there are such, the input is read once more for their names. Runs in a thread.
"""

import hashlib
from array import array
from collections.abc import Iterator

import msgspec
import numpy as np

from router.pipeline.batch import lines
from router.pipeline.batch.lines import Found, LineFault
from router.pipeline.batch.objects import MOST_ERRORS_SHOWN, Counts, Fault
from router.pipeline.batch.pace import Pace
from router.pipeline.batch.results import Appender, Failed, failed

#: Results are appended by as many bytes at once.
_BLOCK_BYTES = 64 * 1024


class Checked(msgspec.Struct, frozen=True):
    """What was found."""

    counts: Counts
    faults: tuple[Fault, ...]  #: the first ones
    model: str | None = None  #: that all good lines name; None: they name several, or none


class _Body(msgspec.Struct):
    model: str = ""


_decode_body = msgspec.json.Decoder(_Body).decode


class TooManyLines(Exception):
    """More than the config allows."""


class Check:
    """Of one batch. `seen` lines have been read so far: other threads may read that number."""

    def __init__(self, batch_id: str, endpoint: str, *, most_lines: int, most_line_bytes: int) -> None:
        self._batch_id = batch_id
        self._endpoint = endpoint
        self._most_lines = most_lines
        self._most_line_bytes = most_line_bytes
        self.seen = 0
        self._faults: list[Fault] = []
        self._broken = 0
        self._model: str | None = None
        self._alike = True  #: no line so far names another model than the first one
        self._block: list[bytes] = []
        self._block_bytes = 0
        self._digests, self._numbers = array("Q"), array("Q")

    def run(self, descriptor: int, appender: Appender, pace: Pace) -> Checked:
        """Raises `OSError`, `TooManyLines`, and what `pace` does."""
        for line in self._lines(descriptor, pace):
            self.seen += 1
            if self.seen > self._most_lines:
                raise TooManyLines
            try:
                asked = lines.read(line, self._endpoint, self._most_line_bytes)
            except LineFault as fault:
                self._note(line.number, fault, appender)
            else:
                self._remember(line.number, asked.custom_id)
                self._note_model(asked.body)
        self._find_twice(descriptor, appender, pace)
        self._flush(appender)
        counts = Counts(total=self.seen, failed=self._broken)
        return Checked(counts, tuple(self._faults), self._model if self._alike else None)

    def _lines(self, descriptor: int, pace: Pace) -> Iterator[Found]:
        for line in lines.find(descriptor, self._most_line_bytes):
            pace.step()
            yield line

    def _remember(self, number: int, custom_id: str) -> None:
        digest = hashlib.blake2b(custom_id.encode(), digest_size=16).digest()
        self._digests.frombytes(digest)
        self._numbers.append(number)

    def _note_model(self, body: msgspec.Raw) -> None:
        if not self._alike:
            return
        try:
            model = _decode_body(body).model
        except lines.UNREADABLE:
            model = ""  # refused when it is run
        self._model = model if self._model is None else self._model
        self._alike = bool(model) and model == self._model

    def _find_twice(self, descriptor: int, appender: Appender, pace: Pace) -> None:
        found = self._lines(descriptor, pace)
        for at, first in twice(self._digests):
            number, before = self._numbers[at], self._numbers[first]
            again = next(line for line in found if line.number == number)
            name = lines.read(again, self._endpoint, self._most_line_bytes).custom_id
            what = f"line {number}: `custom_id`: {name[:80]!r} is that of line {before} too"
            self._note(number, LineFault("duplicate_custom_id", what, "custom_id", name), appender)

    def _note(self, number: int, fault: LineFault, appender: Appender) -> None:
        self._broken += 1
        if len(self._faults) < MOST_ERRORS_SHOWN:
            self._faults.append(fault.at(number))
        why = Failed(fault.code, fault.message, number, fault.param)
        result = failed(self._batch_id, number, fault.custom_id, why)
        self._block.append(result)
        self._block_bytes += len(result)
        if self._block_bytes >= _BLOCK_BYTES:
            self._flush(appender)

    def _flush(self, appender: Appender) -> None:
        if self._block:
            appender.append("errors", b"".join(self._block))
            self._block, self._block_bytes = [], 0


def twice(digests: "array[int]") -> Iterator[tuple[int, int]]:
    """Of 16 bytes each: the index of every one that stands before too, and that of the first of its kind; in order."""
    if len(digests) < 4:
        return
    pairs = np.frombuffer(digests, dtype=np.uint64).reshape(-1, 2)
    order = np.lexsort((pairs[:, 1], pairs[:, 0]))  # stable: the first of a kind comes first
    ordered = pairs[order]
    same = np.flatnonzero((ordered[1:] == ordered[:-1]).all(axis=1)) + 1
    if not len(same):
        return
    starts = np.ones(len(order), dtype=bool)
    starts[same] = False
    first = order[np.maximum.accumulate(np.where(starts, np.arange(len(order)), 0))]
    found = np.stack((order[same], first[same]), axis=1)
    for at, before in found[np.argsort(found[:, 0])]:
        yield int(at), int(before)
