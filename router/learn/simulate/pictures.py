"""A simulation as pictures and one page: curves over what was swept, or the sizes that a search found."""

from collections.abc import Sequence
from pathlib import Path

from router.learn.bench.page import rendered
from router.learn.bench.pictures import Series, curve
from router.learn.evaluate.style import COLOURS, GREY, Picture, figure, picture, plain
from router.learn.simulate.results import Found, refused

TEMPLATE = Path(__file__).parent / "simulate.html"

_CURVES = (
    ("slo", "slo_share", "share within the SLO"),
    ("answered", "requests_per_s", "answers, requests/s"),
    ("goodput", "goodput_per_s", "goodput, requests/s"),
    ("ttft", "ttft_p95_ms", "TTFT p95, ms"),
    ("tpot", "tpot_p95_ms", "TPOT p95, ms"),
    ("quality", "quality_ratio", "quality over the best member's"),
    ("dollars", "usd_per_thousand_answers", "USD per thousand answers"),
    ("busy", "busy", "share of time in which engines work"),
)


def page(found: Found, pictures: Sequence[Picture]) -> str:
    return rendered(TEMPLATE, pictures, found=found, refused=refused)


def draw(found: Found) -> list[Picture]:
    if found.swept:
        return [one for name, key, title in _CURVES if (one := _curve(found, name, key, title)) is not None]
    return [_sizes(found)] if any(one.found for one in found.candidates) else []


def _curve(found: Found, name: str, key: str, title: str) -> Picture | None:
    lines = []
    for label in dict.fromkeys(point.label for point in found.points):
        mine = [point for point in found.points if point.label == label and key in point.figures]
        if mine:
            lines.append(Series(label, [point.x for point in mine], [point.figures[key] for point in mine]))
    if not lines:
        return None
    return curve(lines, f"sweep_{name}", f"{title} over {found.swept}", title, found.swept, f"{title} of each policy")


def _sizes(found: Found) -> Picture:
    """Dollars an hour of the smallest pool of each way to decide, in parts by group."""
    made, axes = figure(8.0, 0.45 * len(found.candidates) + 1.6)
    (one,) = axes
    names, groups = [], list(dict.fromkeys(name for c in found.candidates if c.found for name in c.found.copies))
    for row, candidate in enumerate(found.candidates):
        names.append(f"{candidate.name}, λ {candidate.price:g}" if candidate.name == "auto" else candidate.name)
        if candidate.found is None:
            one.text(0, row, f" {candidate.why}", va="center", fontsize=8, color=GREY)
            continue
        each = candidate.found
        one.barh(row, each.usd_per_hour, color=COLOURS[0] if candidate.best else "#b8cfe0")
        parts = ", ".join(f"{count} x {name}" for name, count in each.copies.items() if name in groups)
        one.text(each.usd_per_hour, row, plain(f" {each.usd_per_hour:g}: {parts}"), va="center", fontsize=8)
    one.set_yticks(range(len(names)), [plain(name) for name in names])
    one.set_ylim(len(names) - 0.4, -0.6)
    one.grid(visible=False, axis="y")
    one.set_xlabel("USD an hour of the smallest pool that holds", fontsize=10)
    one.margins(x=0.3)
    one.set_xlim(left=0)
    told = "; ".join(f"{c.name}: {c.found.usd_per_hour:g} USD" for c in found.candidates if c.found)
    return picture(made, "sizes", "The smallest pool of each way to decide", f"Sizes found. {told}")
