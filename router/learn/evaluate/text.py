"""An evaluation as tables on a terminal."""

from rich.console import Console
from rich.table import Table

from router.learn.evaluate.results import Evaluation, Learnt, Many, Pair, PairFigures
from router.learn.metrics import Interval


def show(found: Evaluation, console: Console | None = None) -> None:
    """On standard output; where that is no terminal, as wide as the tables need."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=160, file=console.file)
    console.print(f"{found.protocol}; held out: {found.held_out}", highlight=False)
    for pair in found.pairs:
        console.print(_pair(pair))
    for many in found.many:
        console.print(_many(many))
    if found.learning:
        console.print(_learning(found.learning))
    console.print(_contestants(found))
    for caveat in found.caveats:
        console.print(f"- {caveat}", highlight=False, markup=False)


def _table(title: str, columns: list[str], caption: str = "") -> Table:
    table = Table(title=title, title_justify="left", caption=caption or None, caption_justify="left")
    for i, column in enumerate(columns):
        table.add_column(column, justify="right" if i else "left", no_wrap=True)
    return table


def _pair(pair: Pair) -> Table:
    reaches = [f"CPT{100 * cpt.reach:g}" for cpt in pair.routers[0].cpt] if pair.routers else []
    lead = [f"lead on {pair.against}, 95 %"] if pair.against else []
    table = _table(
        f"{pair.weak} ({pair.weak_score:.3f}) -> {pair.strong} ({pair.strong_score:.3f}), {pair.table}, "
        f"{pair.prompts} prompts",
        ["router", "APGR", "95 %", *reaches, *lead, "Brier", "ECE mass", "ECE width", "sent, asked 30 %", "worst"],
        "APGR: .5 is chance. CPT: least share of strong calls that recovers X % of the gap. Sent: the share that a "
        "threshold set on other prompts really sends; worst of 10, 30, 50, 70 %, in points.",
    )
    for one in pair.routers:
        table.add_row(*_pair_row(one, bool(lead)))
    return table


def _pair_row(one: PairFigures, with_lead: bool) -> list[str]:
    sent = next((each.sent for each in one.sent if each.asked == 0.3), None)
    lead = [_lead(one.lead, one.lead_95)] if with_lead else []
    return [
        one.router, f"{one.apgr:.3f}", _span(one.apgr_95), *(f"{cpt.share:.1%}" for cpt in one.cpt), *lead,
        _number(one.brier), _number(one.ece_mass), _number(one.ece_width), "" if sent is None else f"{sent:.1%}",
        "" if one.share_error is None else f"{100 * one.share_error:.1f}",
    ]  # fmt: skip


def _many(many: Many) -> Table:
    best = next(model.score for model in many.models if model.name == many.best_single)
    table = _table(
        f"{len(many.models)} models, {many.table}, {many.prompts} prompts; best single {many.best_single} ({best:.4f})",
        ["router", "accuracy", "95 %", f"lead on {many.against}, 95 %", "of gap", "AIQ", "saved", "Brier", "ECE mass"],
        "By the highest predicted quality. Of gap: from the best single model to the oracle. AIQ: mean quality over "
        f"the single models' range of costs (single models alone: {_number(many.single_aiq) or 'no costs'}). "
        "Saved: of the best single model's cost, at its accuracy.",
    )
    for one in many.routers:
        saving = "" if one.saving is None else f"{one.saving:.1%}"
        table.add_row(
            one.router, f"{one.accuracy:.4f}", _span(one.accuracy_95), _lead(one.lead, one.lead_95),
            f"{one.of_gap:.1%}", _number(one.aiq), saving, _number(one.brier), _number(one.ece_mass),
        )  # fmt: skip
    return table


def _learning(points: tuple[Learnt, ...]) -> Table:
    table = _table("How many labels are enough", ["router", "table", "of", "labels a table", "figure", "value", "95 %"])
    for one in points:
        spread = _span(Interval(one.low, one.high))
        table.add_row(one.router, one.table, one.what, str(one.labels or "all"), one.figure, f"{one.value:.3f}", spread)
    return table


def _contestants(found: Evaluation) -> Table:
    table = _table(
        "What they cost", ["router", "kind", "trained and asked, s", "a decision, us", "in a batch, prompts/s"]
    )
    for one in found.routers:
        if one.kind != "baseline":
            us = "" if one.decision_us is None else f"{one.decision_us:,.1f}"
            batch = "" if one.batch_per_s is None else f"{one.batch_per_s:,.0f}"
            table.add_row(one.name, one.kind, f"{one.seconds:.1f}", us, batch)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _span(spread: Interval) -> str:
    return f"{spread.low:.3f}-{spread.high:.3f}"


def _lead(lead: float | None, spread: Interval | None) -> str:
    if lead is None or spread is None:
        return ""
    return f"{lead:+.3f} ({spread.low:+.3f} to {spread.high:+.3f})"
