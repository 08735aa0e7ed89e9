"""`headgate members --cost`: what the engines' steps take, as their models have learnt it, how wrong they were, and how
wrong predicted lengths of answers were."""

import sys

import msgspec

from router.cli.members_shown import Answer, Shown
from router.steps import StepModel

_COLUMNS = (
    "step ms", "sequence us", "held token ns", "prompt token us", "slowdown", "overhead ms", "windows", "cut",
    "error: window", "first token", "output token", "trust: cost", "wait", "error: length", "longer by",
)  # fmt: skip


def show(answer: Answer, *, json: bool) -> None:
    """Of the members that are engines."""
    engines = [member for member in answer.members if member.cost is not None]
    if json:
        costs = {member.name: member.cost for member in engines}
        print(msgspec.json.format(msgspec.json.encode(costs), indent=2).decode())
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("member")
    for name in _COLUMNS:
        table.add_column(name, justify="right")
    for member in engines:
        table.add_row(escape(member.name), *cells(member))
    console = Console() if sys.stdout.isatty() else Console(width=300)  # a pipe gets lines that are not folded
    console.print(table)


def cells(member: Shown) -> tuple[str, ...]:
    """In the order of the columns; of a model that has learnt nothing, only that."""
    cost = member.cost
    if cost is None or cost.windows == 0:
        nothing = ["0" if name in ("windows", "cut") else "-" for name in _COLUMNS[:-2]]
        return (*nothing, *_lengths(cost or StepModel()))
    return (
        f"{cost.step_s * 1e3:.3f}",
        f"{cost.running_s * 1e6:.1f}",
        f"{cost.context_s * 1e9:.2f}",
        f"{cost.prefill_s * 1e6:.2f}",
        f"+{100 * cost.slowdown:.0f} %",
        f"{cost.overhead_s * 1e3:.2f}",
        str(cost.windows),
        str(cost.cut),
        *_errors(cost),
        f"{cost.cost_trust:.2f}",
        f"{cost.wait_trust:.2f}",
        *_lengths(cost),
    )


def _lengths(cost: StepModel) -> tuple[str, str]:
    """Of answers whose length the router's checkpoint had predicted."""
    if not cost.lengths:
        return "-", "-"
    return f"{100 * cost.error_length:.0f} %", f"{100 * cost.output_surplus:+.0f} %"


def _errors(cost: StepModel) -> tuple[str, str, str]:
    first = f"{100 * cost.error_first_token:.0f} %" if cost.answers else "-"
    token = f"{100 * cost.error_output_token:.0f} %" if cost.answers else "-"
    return f"{100 * cost.error_window:.0f} %", first, token
