"""Writes what a simulation found into its folder: JSON, CSV, pictures and one page."""

import csv
import io
from pathlib import Path

import msgspec

from router.learn.output import written
from router.learn.simulate.results import Found


def json(found: Found) -> str:
    return msgspec.json.encode(found).decode()


def write(found: Found, folder: Path, *, pictures: bool) -> list[Path]:
    """`simulate.json`, `simulate.csv` and, with `pictures`, a PNG each and `simulate.html`, which needs no other."""
    files = {
        "simulate.json": msgspec.json.format(msgspec.json.encode(found)) + b"\n",
        "simulate.csv": table(found).encode(),
    }
    if pictures:
        from router.learn.simulate import pictures as drawn

        drawings = drawn.draw(found)
        files |= {f"{one.name}.png": one.png for one in drawings}
        files["simulate.html"] = drawn.page(found, drawings).encode()
    return written("--out", folder, files)


def table(found: Found) -> str:
    """CSV, a row a point; of each figure its value and, over several seeds, its ends."""
    points = [*found.points, *(one.found for one in found.candidates if one.found is not None)]
    names = list(dict.fromkeys(name for point in points for name in point.figures))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    writer.writerow(["label", "x", "rate_per_s", "requests", "devices", "usd_per_hour", "price", "refused", *ends])
    for point in points:
        known = [point.figures.get(name) for name in names]
        values = [value for one in known for value in ((one.value, one.low, one.high) if one else (None, None, None))]
        x = None if point.x != point.x else point.x  # NaN: nothing was varied
        head = [point.label, x, point.rate, point.requests, point.devices, point.usd_per_hour, point.price]
        writer.writerow([*head, sum(point.refused.values()), *values])
    return out.getvalue()
