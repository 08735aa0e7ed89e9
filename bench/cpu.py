"""CPU seconds and memory of process trees, from /proc, by role.

Knows how vLLM titles its engine processes; nothing of what the processes do.
"""

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")

#: How vLLM titles the processes that hold the scheduler and the model. All else is frontend.
_ENGINE_TITLES = ("VLLM::EngineCore", "VLLM::Worker", "VLLM::DPCoordinator")


class Process(NamedTuple):
    pid: int
    parent: int
    title: str
    cpu_s: float  #: user and system, of all its threads, also those that have ended

    @property
    def is_engine_core(self) -> bool:
        return self.title.startswith(_ENGINE_TITLES)


def read(pid: int) -> Process | None:
    """One process, None if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command name, in parentheses, may hold spaces: count the fields after it.
    name, fields = stat[stat.index("(") + 1 : stat.rindex(")")], stat[stat.rindex(")") + 2 :].split()
    return Process(pid, int(fields[1]), title or name, (int(fields[11]) + int(fields[12])) / _TICKS_PER_S)


def tree(root: int) -> list[Process]:
    """`root` and all its descendants."""
    every = [process for entry in os.listdir("/proc") if entry.isdigit() and (process := read(int(entry)))]
    inside, added = {root}, True
    while added:
        fresh = {process.pid for process in every if process.parent in inside} - inside
        inside |= fresh
        added = bool(fresh)
    return [process for process in every if process.pid in inside]


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
