"""A program that reads files of any bytes by every reader of tables; what ends it ends no test run.

A line of standard input names a file: {"path": ..., "format": ...}. The answer is a line of JSON: the traceback of what
was wrong, or "". The folder of the file must hold nothing else but what this program writes there.
"""

import json
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from router.errors import ConfigError
from router.learn.data import battles, importers, outcomes, queries
from router.learn.data.importers.run import run

SECONDS = 60  #: bounds what would not end; a file takes milliseconds
LIMIT_S = 600  #: after which a file that hangs ends this program


def said(read: Callable[[], object]) -> str:
    """What refuses; empty where nothing does. Anything but ConfigError is a failure."""
    begun = time.monotonic()
    try:
        read()
    except ConfigError as error:
        return str(error)
    finally:
        assert time.monotonic() - begun < SECONDS
    return ""


def check(path: Path, format: str) -> None:
    folder = path.parent
    for out in (folder / "out.jsonl", folder / "out.parquet"):
        for name in ("auto", format) if format in importers.NAMES else ("auto",):
            for skip in (False, True):
                out.write_bytes(b"before")
                # type: ignore[misc]
                refused = said(lambda out=out, name=name, skip=skip: run([path], out, name, skip_broken=skip))
                assert (out.read_bytes() == b"before") == bool(refused), refused
                assert len(refused) < 3000
                assert not refused or str(path) in refused, refused
                if not refused:
                    read = battles.read if battles.is_battles(out) else outcomes.read
                    again = said(lambda read=read, out=out: read(out))  # type: ignore[misc]
                    assert "Parquet" not in again, again
    for read in (outcomes.read, battles.read, queries.read):
        refused = said(lambda read=read: read(path))  # type: ignore[misc]
        assert len(refused) < 3000
        assert not refused or str(path) in refused, refused
    left = {one.name for one in folder.iterdir()}
    assert left == {path.name, "out.jsonl", "out.parquet"}, left


def main() -> None:
    for line in sys.stdin:
        asked = json.loads(line)
        signal.alarm(LIMIT_S)
        try:
            check(Path(asked["path"]), asked["format"])
            wrong = ""
        except Exception:
            wrong = traceback.format_exc()
        signal.alarm(0)
        print(json.dumps(wrong), flush=True)


if __name__ == "__main__":
    main()
