"""`headgate members --prices`: what devices' time costs now and why, lambda, and what the objective reaches."""

import sys

import msgspec

from router.cli.members_shown import ShownDevice, ShownPrices

_UNITS = {
    "budget": "USD",
    "share": "of the requests",
    "slo": "of the answers",
    "quality": "of the strongest, predicted",
}


def show(prices: ShownPrices | None, *, json: bool) -> None:
    """None: the server is of a release that tells none."""
    if prices is None:
        print("null" if json else "this server tells no prices")
        return
    if json:
        print(msgspec.json.format(msgspec.json.encode(prices), indent=2).decode())
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    print(objective_text(prices))
    table = Table(box=None, pad_edge=False)
    for name in ("device", "USD/hour", "bought at", "factor", "why", "wait s"):
        table.add_column(name, justify="left" if name in ("device", "why") else "right")
    for device in prices.devices:
        table.add_row(*map(escape, cells(device)))
    console = Console() if sys.stdout.isatty() else Console(width=300)  # a pipe gets lines that are not folded
    console.print(table)


def cells(device: ShownDevice) -> tuple[str, ...]:
    """In the order of the columns."""
    usd = device.usd_per_hour
    price, bought = f"{usd * device.factor:.2f}", f"{usd:.2f}"
    return device.device, price, bought, f"{device.factor:.2f}", device.cause or "-", f"{device.wait_s:.2f}"


def objective_text(prices: ShownPrices) -> str:
    steered = f", steered by the {prices.price_of}" if prices.price_of else ""
    said = f"objective {prices.objective}; lambda {prices.price:.4g}{steered}"
    if prices.aim is None:
        return said
    reached = "nothing yet" if prices.reached is None else f"{prices.reached:.4g}"
    said = f"{said}; aim {prices.aim:.4g} {_UNITS.get(prices.objective, '')}, reached {reached}"
    return f"{said}\n{prices.broken}" if prices.broken else said
