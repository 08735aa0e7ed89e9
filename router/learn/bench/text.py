"""What a run found, as text on a terminal."""

import sys
from collections.abc import Iterator

from router.learn.bench.figures import Estimate, Measured
from router.learn.bench.results import Found

#: Title, figure, digits, and whether its interval is shown too; `bench.csv` has all.
_SHOWN = (
    ("quality", "quality", 3, True), ("requests/s", "requests_per_s", 2, True),
    ("tokens/s", "output_tokens_per_s", 1, False), ("goodput/s", "goodput_per_s", 2, True),
    ("in SLO", "slo_share", 3, False), ("TTFT p50", "ttft_p50_ms", 0, False), ("p95 ms", "ttft_p95_ms", 0, False),
    ("TPOT p50", "tpot_p50_ms", 1, False), ("p95 ms", "tpot_p95_ms", 1, False),
    ("USD/M tokens", "usd_per_million_tokens", 3, False), ("USD/1k good", "usd_per_thousand_good", 4, True),
)  # fmt: skip


def show(found: Found) -> None:
    """The table, what to know before believing it, and what was compared with what."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console() if sys.stdout.isatty() else Console(width=300)  # a pipe gets lines that are not folded
    shown = [column for column in _SHOWN if any(column[1] in one.figures for one in found.measured)]
    table = Table(box=None, pad_edge=False)
    table.add_column("policy")
    table.add_column("load")
    for title, *_ in shown:
        table.add_column(title, justify="right")
    table.add_column("errors")
    for one in found.measured:
        cells = [cell(one.figures.get(name), digits, spread) for _, name, digits, spread in shown]
        table.add_row(escape(one.policy), one.level, *cells, errors_text(one))
    console.print(table)
    for line in summary(found):
        console.print(escape(line), soft_wrap=True)


def summary(found: Found) -> Iterator[str]:
    if found.slo:
        yield f"SLO: {found.slo}"
    if found.best_constant:
        yield f"Best constant: {found.best_constant}"
    on_front = [one.policy for one in found.loaded if one.front]
    if len(found.loaded) > 1:
        yield f"Pareto front (quality, loaded throughput, dollars): {', '.join(on_front)}"
    for caveat in found.caveats:
        yield f"Note: {caveat}"


def errors_text(one: Measured) -> str:
    return ", ".join(f"{count} {kind}" for kind, count in sorted(one.faults.items())) or "-"


def cell(one: Estimate | None, digits: int, spread: bool) -> str:
    if one is None:
        return "-"
    if not spread or one.low is None or one.high is None:
        return f"{one.value:.{digits}f}"
    return f"{one.value:.{digits}f} [{one.low:.{digits}f}, {one.high:.{digits}f}]"
