"""Blocks of whole lines appended to a file, by a native thread that no other thread of Python holds up.

`put` never waits for the disk. Which file, and when it is synced or changed, is its keeper's to say, on a thread of its
own: no write waits for that. All calls are thread-safe; none but the waiting ones take longer than a copy.
"""

class Appender:
    """Its thread ends once all that was put before `end` is written or dropped; or with the process."""

    def __init__(self, most_bytes: int, *, synced_first: bool = False) -> None:
        """`most_bytes`: from this size of a file on its keeper is woken. `synced_first`: `done` tells of a block only
        after `synced` has. Writes nothing before `use` or `refuse`. Raises OSError."""

    def fileno(self) -> int:
        """Readable while `done` has something to tell."""

    def put(self, data: bytes, lines: int, *, told: bool = False) -> int:
        """`data` holds so many whole lines. The block's number, from 1 on; with `told`, `done` will tell of it."""

    def settle(self, most_s: float, pause_s: float) -> bool:
        """Whether all that was put is written or dropped. Waits for that without the GIL, no longer than `most_s`; in
        vain five times at once, and then once in `pause_s`."""

    def drained(self, most_s: float) -> bool:
        """The same, whatever happened before."""

    def counts(self) -> tuple[int, int, int, int]:
        """Bytes put; of them written or dropped; lines written; lines that the file refused."""

    def done(self) -> list[tuple[int, bool]]:
        """Blocks whose fate is known, and was not told yet: number, and whether it is in the file."""

    def end(self) -> None: ...
    def attend(self, most_s: float) -> tuple[int, int, int, int, bool]:
        """Waits without the GIL until the keeper has something to act on, no longer than `most_s`. Bytes in the present
        file; the last block taken; the error number of the last write, 0 where it went well; that of the last one that
        did not; whether all has ended."""

    def use(self, file: int) -> int:
        """Write to the descriptor `file` from now on. Waits for a write under way. The descriptor before, which nothing
        is written to any more; -1: there was none."""

    def refuse(self, error: int) -> int:
        """There is no file, because of this error number: drop what comes, until `use`. Returns as `use`."""

    def synced(self, block: int, well: bool) -> None:
        """All blocks up to this one are on the disk; or, for want of `well`, count as dropped for whom `done` tells."""
