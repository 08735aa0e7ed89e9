"""Writes what a run found into its folder: JSON, CSV, pictures and one page."""

import csv
import io
from pathlib import Path

import msgspec

from router.learn.bench.figures import Estimate
from router.learn.bench.results import Found
from router.learn.output import written


def json(found: Found) -> str:
    return msgspec.json.encode(found).decode()


def write(found: Found, folder: Path, *, pictures: bool) -> list[Path]:
    """`bench.json`, `bench.csv` and, with `pictures`, a PNG each and `bench.html`, which needs none of the others."""
    files = {
        "bench.json": msgspec.json.format(msgspec.json.encode(found)) + b"\n",
        "bench.csv": table(found).encode(),
    }
    if pictures:
        from router.learn.bench import page
        from router.learn.bench import pictures as drawn

        drawings = drawn.draw(found)
        files |= {f"{one.name}.png": one.png for one in drawings}
        files["bench.html"] = page.html(found, drawings).encode()
    return written("--out", folder, files)


def table(found: Found) -> str:
    """CSV, a row a policy and level; of each figure its value and the ends of its interval."""
    names = list(dict.fromkeys(name for one in found.measured for name in one.figures))
    columns = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    kinds = sorted({kind for one in found.measured for kind in one.faults})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    fixed = ["policy", "level", "rate_per_s", "rounds", "requests"]
    writer.writerow([*fixed, *(f"error_{kind}" for kind in kinds), *columns, "late_p99_ms", "own_cpu_us"])
    for one in found.measured:
        values = [value for name in names for value in _ends(one.figures.get(name))]
        head = [one.policy, one.level, one.rate, one.rounds, one.requests]
        counts = [one.faults.get(kind, 0) for kind in kinds]
        writer.writerow([*head, *counts, *values, one.late_p99_ms, one.own_cpu_us])
    return out.getvalue()


def _ends(one: Estimate | None) -> list[float | None]:
    return [None, None, None] if one is None else [one.value, one.low, one.high]
