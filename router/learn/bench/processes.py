"""CPU seconds of process trees, from /proc. Knows how vLLM titles its processes; nothing of what they do."""

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


def tree_cpu_s(root: int) -> float | None:
    """CPU seconds of a process and its descendants; None if it is gone."""
    found = tree(root)
    return sum(process.cpu_s for process in found) if found else None
