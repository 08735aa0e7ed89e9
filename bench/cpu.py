"""CPU seconds and memory of process trees, from /proc, by role. Knows nothing of what the processes do."""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

from router.learn.bench.processes import Process, read, tree

__all__ = ["Process", "TreeSeconds", "read", "rss_mb", "seconds", "tree", "tree_seconds", "waited_seconds"]


def seconds(pid: int) -> float:
    """CPU seconds of one process. Raises `RuntimeError` if it is gone."""
    process = read(pid)
    if process is None:
        raise RuntimeError(f"process {pid} has ended")
    return process.cpu_s


class TreeSeconds(NamedTuple):
    """CPU seconds of a serving tree."""

    engine: float  #: engine cores and their workers
    other: float  #: everything else: HTTP, rendering, detokenising, routing, supervision

    def since(self, earlier: "TreeSeconds") -> "TreeSeconds":
        return TreeSeconds(self.engine - earlier.engine, self.other - earlier.other)


def tree_seconds(root: int) -> TreeSeconds:
    processes = tree(root)
    engine = sum(process.cpu_s for process in processes if process.is_engine_core)
    return TreeSeconds(engine, sum(process.cpu_s for process in processes) - engine)


def waited_seconds(root: int) -> float:
    """Seconds that threads of a tree were ready to run and waited for a processor, summed; 0 where the kernel does not
    tell (CONFIG_SCHED_INFO)."""
    waited_ns = 0
    for process in tree(root):
        for stat in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # a thread that ended just now
                waited_ns += int(stat.read_text(encoding="ascii").split()[1])
    return waited_ns / 1e9


def rss_mb(pid: int) -> float:
    """Resident memory of one process in MB (10^6 bytes), shared pages and mapped files included."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6
