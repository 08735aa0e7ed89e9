"""What a simulation found, as text on a terminal."""

import sys
from collections.abc import Iterator

from router.learn.bench.text import cell
from router.learn.simulate.figures import Figures
from router.learn.simulate.results import Found, refused

#: Title, figure, digits, and whether its ends are shown too; `simulate.csv` has all.
_SHOWN = (
    ("quality", "quality", 3, True), ("/ best", "quality_ratio", 3, False), ("requests/s", "requests_per_s", 2, True),
    ("tokens/s", "output_tokens_per_s", 0, False), ("in SLO", "slo_share", 3, True),
    ("TTFT p50", "ttft_p50_ms", 0, False), ("p95 ms", "ttft_p95_ms", 0, True), ("TPOT p50", "tpot_p50_ms", 1, False),
    ("p95 ms", "tpot_p95_ms", 1, False), ("busy", "busy", 2, False), ("USD/1k", "usd_per_thousand_answers", 4, False),
)  # fmt: skip


def show(found: Found) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=300)  # a pipe gets lines that are not folded
    points = found.points or [one.found for one in found.candidates if one.found is not None]
    shown = [column for column in _SHOWN if any(column[1] in one.figures for one in points)]
    table = Table(box=None, pad_edge=False)
    for title in ("policy", *((found.swept,) if found.swept else ()), "pool"):
        table.add_column(title)
    for title, *_ in shown:
        table.add_column(title, justify="right")
    for title in ("shares", "refused"):
        table.add_column(title)
    for one in points:
        head = [escape(one.label), *((f"{one.x:g}",) if found.swept else ()), escape(copies(one))]
        cells = [cell(one.figures.get(name), digits, spread) for _, name, digits, spread in shown]
        table.add_row(*head, *cells, escape(shares(one)), refused(one.refused))
    if points:
        console.print(table)
    for line in summary(found):
        console.print(escape(line), soft_wrap=True)


def copies(one: Figures) -> str:
    return " + ".join(f"{count} x {name}" for name, count in one.copies.items())


def shares(one: Figures) -> str:
    return ", ".join(f"{member.name} {member.share:.2f}" for member in one.members)


def summary(found: Found) -> Iterator[str]:
    if found.slo:
        yield f"SLO: {found.slo}, by {found.attain:g} of the requests"
    for one in found.candidates:
        name = f"{one.name}, lambda {one.price:g}" if one.name == "auto" else f"{one.name} alone"
        if one.found is None:
            yield f"{name}: none: {one.why}"
        else:
            best = ", the cheapest found" if one.best else ""
            yield f"{name}: {copies(one.found)}: {one.found.devices} devices, {one.found.usd_per_hour:g} USD/h{best}"
    for note in found.notes:
        yield f"Note: {note}"
