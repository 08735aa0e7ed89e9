"""An evaluation as tables on a terminal."""

from math import isnan

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from router.learn.evaluate.metrics import Interval
from router.learn.evaluate.results import Evaluation, Learnt, Many, Pair


def show(found: Evaluation, console: Console | None = None) -> None:
    """On standard output; where that is no terminal, as wide as the tables need."""
    console = console or Console()
    if not console.is_terminal:
        console = Console(width=180, file=console.file)
    console.print(f"{found.protocol}; held out: {found.held_out}", "", sep="\n", highlight=False, markup=False)
    for pair in found.pairs:
        console.print(_routing(pair), _sureness(pair), "", sep="\n")
    for many in found.many:
        console.print(_many(many), "", sep="\n")
    if found.learning:
        console.print(_learning(found.learning), "", sep="\n")
    console.print(_contestants(found), "", sep="\n")
    for caveat in found.caveats:
        console.print(f"- {caveat}", highlight=False, markup=False)


def _table(title: str, columns: list[str], caption: str = "") -> Table:
    table = Table(
        title=escape(title) or None, title_justify="left", title_style="bold",
        caption=caption or None, caption_justify="left",
        box=box.SIMPLE_HEAD, padding=(0, 1), show_edge=False, pad_edge=False,
    )  # fmt: skip
    for i, column in enumerate(columns):
        if i:
            table.add_column(column, justify="right", no_wrap=True)
        else:
            table.add_column(column, overflow="fold", min_width=9)
    return table


def _routing(pair: Pair) -> Table:
    reaches = [f"CPT{100 * cpt.reach:g}" for cpt in pair.routers[0].cpt] if pair.routers else []
    lead = [f"lead on {pair.against}, 95 %"] if pair.against else []
    table = _table(
        f"{pair.weak} ({pair.weak_score:.3f}) -> {pair.strong} ({pair.strong_score:.3f}), {pair.table}, "
        f"{pair.prompts} prompts",
        ["router", "APGR", "95 %", *reaches, *lead],
        "APGR: .5 is chance. CPT: least share of strong calls that recovers X % of the gap.",
    )
    for one in pair.routers:
        reached = [f"{cpt.share:.1%}" for cpt in one.cpt]
        against = [_lead(one.lead, one.lead_95)] if lead else []
        table.add_row(escape(one.router), f"{one.apgr:.3f}", _span(one.apgr_95), *reached, *against)
    return table


def _sureness(pair: Pair) -> Table:
    shares = [f"{sent.asked:.0%}" for sent in pair.routers[0].sent] if pair.routers else []
    table = _table(
        "",
        ["router", "Brier", "ECE mass", "ECE width", *shares, "worst"],
        "ECE: bins of equally many prompts, or equally wide. 10 % to 70 %: the share really sent, by a threshold set "
        "for this share on other prompts; the worst difference, in points.",
    )
    for one in pair.routers:
        if one.sent:
            sure = map(_number, (one.brier, one.ece_mass, one.ece_width))
            sent = [f"{each.sent:.1%}" for each in one.sent]
            table.add_row(escape(one.router), *sure, *sent, f"{100 * (one.share_error or 0):.1f}")
    return table


def _many(many: Many) -> Table:
    best = next(model.score for model in many.models if model.name == many.best_single)
    table = _table(
        f"{len(many.models)} models, {many.table}, {many.prompts} prompts; best single {many.best_single} ({best:.4f})",
        ["router", "accuracy", "95 %", f"lead on {many.against}, 95 %", "of gap", "AIQ", "saved"],
        "By the highest predicted quality. Of gap: from the best single model to the oracle. AIQ: mean quality over "
        f"the single models' range of costs (single models alone: {_number(many.single_aiq) or 'no costs'}). "
        "Saved: of the best single model's cost, at its accuracy.",
    )
    for one in many.routers:
        saving = "" if one.saving is None else f"{one.saving:.1%}"
        table.add_row(
            escape(one.router), f"{one.accuracy:.4f}", _span(one.accuracy_95), _lead(one.lead, one.lead_95),
            f"{one.of_gap:.1%}", _number(one.aiq), saving,
        )  # fmt: skip
    return table


def _learning(points: tuple[Learnt, ...]) -> Table:
    """A row a contestant and figure, a column a number of labels."""
    sizes = sorted({one.labels for one in points}, key=lambda size: (size == 0, size))
    columns = [f"{size:,}" if size else "all" for size in sizes]
    caption = "APGR of a pair, or accuracy over all models, of fits on so many labelled prompts a table."
    table = _table("How many labels are enough", ["of", "router", *columns, "95 %, all"], caption)
    for kind in dict.fromkeys((one.table, one.what) for one in points):
        for router in dict.fromkeys(one.router for one in points):
            own = {one.labels: one for one in points if (one.table, one.what, one.router) == (*kind, router)}
            if own:
                values = [f"{own[size].value:.3f}" if size in own else "" for size in sizes]
                spread = _span(Interval(own[0].low, own[0].high)) if 0 in own else ""
                table.add_row(escape(f"{kind[1]}, {kind[0]}"), escape(router), *values, spread)
    return table


def _contestants(found: Evaluation) -> Table:
    table = _table(
        "What they cost", ["router", "kind", "trained and asked, s", "a decision, us", "in a batch, prompts/s"]
    )
    for one in found.routers:
        if one.kind != "baseline":
            us = "" if one.decision_us is None else f"{one.decision_us:,.1f}"
            batch = "" if one.batch_per_s is None else f"{one.batch_per_s:,.0f}"
            table.add_row(escape(one.name), one.kind, f"{one.seconds:.1f}", us, batch)
    return table


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _span(spread: Interval) -> str:
    return "none" if isnan(spread.low) else f"{spread.low:.3f}-{spread.high:.3f}"


def _lead(lead: float | None, spread: Interval | None) -> str:
    if lead is None or spread is None:
        return ""
    if isnan(spread.low):
        return f"{lead:+.3f}"
    return f"{lead:+.3f} ({spread.low:+.3f} to {spread.high:+.3f})"
