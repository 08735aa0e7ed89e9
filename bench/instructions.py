"""Machine instructions of a request, a token and a decision, beside those of another checkout. Needs valgrind.

A busy machine changes times, not instructions: callgrind counts those of our process, the kernel's left out. Each kind
of work runs n and 2n times; the difference is counted, so what happens once is not. Both checkouts must be built.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import report

GOALS = (report.Goal("largest_ratio", 1.03),)
_WORK = Path(__file__).resolve().parent / "instruction_work.py"
_SUMMARY = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


class Compared(NamedTuple):
    """Instructions of one unit of work."""

    ours: float
    base: float

    @property
    def ratio(self) -> float:
        return self.ours / self.base


def missing_tools() -> str:
    """What must be installed first; empty when it is here."""
    return "" if shutil.which("valgrind") else "valgrind is missing: apt-get install valgrind"


def compare(base: Path, kind: str) -> Compared:
    """One kind of work in this checkout and in the one at `base`."""
    return Compared(*(found[kind] for found in measure([report.ROOT, base.resolve()], kind, None)))


def begin(root: Path, folder: Path, kinds: str) -> "subprocess.Popen[str]":
    """Count in the checkout at `root`; dumps go to `folder`."""
    command = [
        "valgrind",
        "--tool=callgrind",
        "--dump-before=getpgrp",
        f"--callgrind-out-file={folder}/counts",
        f"--log-file={folder}/log",
        sys.executable,
        str(_WORK),
        kinds,
    ]
    env = {**os.environ, "PYTHONPATH": str(root), "PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def end(process: "subprocess.Popen[str]", root: Path, folder: Path) -> dict[str, float]:
    """Instructions a unit, by kind of work."""
    out, err = process.communicate()
    if process.returncode:
        raise SystemExit(f"{root}: the counted work failed:\n{err[-3000:]}")
    found = {}
    for number, line in enumerate(out.splitlines()):
        name, units = line.split()
        once, twice = (counted(folder / f"counts.{4 * number + at}") for at in (2, 4))
        found[name] = round((twice - once) / int(units), 1)
    return found


def counted(dump: Path) -> int:
    found = _SUMMARY.search(dump.read_text(encoding="utf-8"))
    if found is None:
        raise SystemExit(f"{dump}: expected a callgrind dump with its sum")
    return int(found[1])


def measure(roots: list[Path], kinds: str, keep: Path | None) -> list[dict[str, float]]:
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as made:
        folders = [(keep or Path(made)) / name for name in ("ours", "base")[: len(roots)]]
        for folder in folders:
            folder.mkdir(parents=True, exist_ok=True)
        begun = [begin(root, folder, kinds) for root, folder in zip(roots, folders, strict=True)]
        return [end(*each) for each in zip(begun, roots, folders, strict=True)]


def figures(ours: dict[str, float], base: dict[str, float]) -> dict[str, Any]:
    ratios = {name: round(ours[name] / base[name], 4) for name in ours if base.get(name)}
    return {
        "largest_ratio": max(ratios.values(), default=None),
        "instructions": ours,
        "base_instructions": base,
        "ratios": ratios,
    }


def main() -> None:
    parser = report.parser(__doc__ or "", runs=1)
    parser.add_argument("--base", type=Path, help="another checkout, built, to be counted too")
    parser.add_argument("--kinds", default="", help="only the kinds of work whose name contains this")
    parser.add_argument("--keep", type=Path, help="keep callgrind's dumps in this folder, for callgrind_annotate")
    args = parser.parse_args()
    if missing := missing_tools():
        parser.exit(2, f"{missing}\n")
    roots = [report.ROOT, *([] if args.base is None else [args.base.resolve()])]
    kinds = args.kinds or ("chat_plain" if args.quick else "")
    ours, *others = measure(roots, kinds, args.keep)
    found = figures(ours, others[0] if others else {})
    if not args.json:
        show(found)
    report.finish(args, "instructions", found, goals=GOALS, distributions=("cython", "msgspec", "uvloop", "httptools"))


def show(found: dict[str, Any]) -> None:
    for name, ours in found["instructions"].items():
        base, ratio = found["base_instructions"].get(name), found["ratios"].get(name)
        print(f"{name:34} {ours:12,.0f}" + ("" if base is None else f" {base:12,.0f} {ratio:7.3f}"))


if __name__ == "__main__":
    main()
