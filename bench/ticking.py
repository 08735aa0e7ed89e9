"""The `headgate` command, whose ledger notes in a mapped file what it told in which turn of the event loop.

    HEADGATE_BENCH_TICKS=FILE python bench/ticking.py serve headgate.yaml

What was noted outlives a SIGKILL. Noting is a copy to memory, which neither waits nor lets another thread run. Counted
are turns in which requests ended, by the ledger's own call a turn.
"""

import mmap
import os
import struct
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from router.cli.main import main as headgate
from router.observe.ledger import Ledger
from router.observe.record import Record

VARIABLE = "HEADGATE_BENCH_TICKS"
_BYTES = 1 << 26
_END = struct.Struct("<q")  #: at the start of the file: where the notes end


class Tick(NamedTuple):
    at_s: float  #: of `time.perf_counter`
    ids: tuple[str, ...]  #: of the decisions whose requests had ended by then


class Notes:
    """Written by the server."""

    def __init__(self, path: Path) -> None:
        with path.open("wb+") as file:
            file.truncate(_BYTES)
            self._map = mmap.mmap(file.fileno(), _BYTES)
        self._at = _END.size

    def note(self, records: Sequence[Record]) -> None:
        line = f"{time.perf_counter_ns()} {' '.join([record.id for record in records])}\n".encode()
        end = self._at + len(line)
        self._map[self._at : end] = line
        self._at = end
        _END.pack_into(self._map, 0, end)


def read(path: Path) -> list[Tick]:
    """What a server noted before it was killed, in order."""
    data = path.read_bytes()
    (end,) = _END.unpack_from(data)
    ticks = []
    for line in data[_END.size : end].decode().splitlines():
        at_ns, *ids = line.split(" ")
        ticks.append(Tick(int(at_ns) / 1e9, tuple(ids)))
    return ticks


def main() -> int:
    notes, begin = Notes(Path(os.environ[VARIABLE])), Ledger.__init__

    def begin_noting(ledger: Ledger) -> None:
        begin(ledger)
        ledger.subscribe(notes.note)  # before the journal, which subscribes later

    Ledger.__init__ = begin_noting  # type: ignore[method-assign]
    return headgate(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
