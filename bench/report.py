"""What every bench shares: its arguments, where it ran, medians with their spread, and the one JSON line at the end.

Knows nothing of what is measured.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import shlex
import statistics
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parent.parent


class Goal(NamedTuple):
    """What a figure must reach. `at_most` False: it must be at least `bound`."""

    field: str
    bound: float
    at_most: bool = True

    def met(self, value: float | None) -> bool | None:
        """None where the figure was not measured."""
        if value is None:
            return None
        return value <= self.bound if self.at_most else value >= self.bound

    def text(self) -> str:
        return f"{'<=' if self.at_most else '>='} {self.bound:g}"


def parser(description: str, *, runs: int = 5) -> argparse.ArgumentParser:
    """The arguments that all benches take."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    made.add_argument("--runs", type=int, default=runs, help="interleaved runs of each contestant")
    made.add_argument("--quick", action="store_true", help="seconds, not minutes: checks the bench itself")
    made.add_argument("--priority", action="store_true", help="run ahead of other work on this machine; needs root")
    made.add_argument("--json", action="store_true", help="print the JSON line only")
    made.add_argument("--out", type=Path, help="also write the JSON to this file")
    return made


def progress(text: str) -> None:
    """One line for whoever waits; standard output stays free for the result."""
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def spread(values: Sequence[float], digits: int = 3) -> dict[str, Any]:
    """Median, quartiles, extremes and the runs themselves."""
    quartiles = statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else [values[0]] * 3
    named = {"median": quartiles[1], "p25": quartiles[0], "p75": quartiles[2], "min": min(values), "max": max(values)}
    return {**{name: round(value, digits) for name, value in named.items()}, "runs": [round(v, digits) for v in values]}


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Ours over theirs, run by run: what paired, interleaved runs are for."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of `values` lies (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def machine() -> dict[str, Any]:
    """Where this ran. `load` is the 1-minute load average at the start: a shared machine shows."""
    info: dict[str, Any] = {
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "load": round(os.getloadavg()[0], 2),
    }
    gpu = _run(["nvidia-smi", "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"])
    return {**info, "gpu": gpu.replace("\n", "; ")} if gpu else info


def versions(*distributions: str) -> dict[str, str]:
    """Python and the named distributions, those that are installed."""
    found = {"python": platform.python_version()}
    for name in ("headgate-router", *distributions):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def commit() -> str:
    """The commit that was measured, `+` where tracked files differ from it; empty outside a repository."""
    head = _run(["git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD"])
    dirty = _run(["git", "-C", str(ROOT), "status", "--porcelain", "--untracked-files=no"])
    return head + ("+" if head and dirty else "")


def command() -> str:
    """How this was started. Paths are relative to the repository; of those elsewhere the last part is told."""
    script = _shown(str(Path(sys.argv[0]).resolve()))
    return shlex.join(["python", script, *map(_shown_argument, sys.argv[1:])])


def _shown_argument(argument: str) -> str:
    flag, equals, value = argument.partition("=") if argument.startswith("--") else ("", "", argument)
    return flag + equals + _shown(value)


def _shown(text: str) -> str:
    path = Path(text)
    if not path.is_absolute():
        return text
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def finish(
    args: argparse.Namespace,
    bench: str,
    figures: Mapping[str, Any],
    *,
    goals: Sequence[Goal] = (),
    distributions: Sequence[str] = (),
    extra_versions: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Print the summary and, as the last line, the JSON. Quick runs judge no goals."""
    judged = {goal.field: {"goal": goal.text(), "met": goal.met(figures.get(goal.field))} for goal in goals}
    result = {
        "bench": bench,
        **figures,
        "quick": args.quick,
        "goals": {} if args.quick else judged,
        "command": command(),
        "machine": machine(),
        "versions": {**versions(*distributions), **(extra_versions or {})},
        "commit": commit(),
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    if not args.json:
        _print_summary(result)
    if args.out:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result), flush=True)
    return result


def _print_summary(result: Mapping[str, Any]) -> None:
    where = result["machine"]
    print(f"{result['bench']} at {result['commit'] or 'no commit'}, {where['cores']} cores of {where['cpu']}")
    print(", ".join(f"{name} {version}" for name, version in result["versions"].items()))
    for name, value in result.items():
        if isinstance(value, int | float) and not isinstance(value, bool):
            verdict = result["goals"].get(name)
            note = f"  (goal {verdict['goal']}: {_verdict(verdict['met'])})" if verdict else ""
            print(f"  {name:28} {value:g}{note}")


def _verdict(met: bool | None) -> str:
    return "not measured" if met is None else "met" if met else "MISSED"


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor()


def _run(command: list[str]) -> str:
    """A command's output, or empty where it is missing or fails: facts for the report only."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
