"""Writes the evaluation as one self-contained HTML page, which loads nothing from a network."""

import base64
from collections.abc import Callable, Sequence
from math import isnan
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from router.learn.evaluate.metrics import Interval
from router.learn.evaluate.results import Evaluation
from router.learn.evaluate.style import Picture

TEMPLATE = Path(__file__).parent / "report.html"


def html(found: Evaluation, pictures: Sequence[Picture]) -> str:
    """Names from tables are escaped: a page of strangers' data runs nothing."""
    beside = {router.name for router in found.routers if router.kind == "baseline"}
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.globals |= {"number": number, "percent": percent, "span": span, "lead": lead}
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    return template.render(
        found=found, show=_shown(pictures), learning=[one.name for one in pictures if one.name.startswith("learning")],
        kind=lambda name: "ours" if name not in beside | {"routellm"} else "beside",
    )  # fmt: skip


def _shown(pictures: Sequence[Picture]) -> Callable[[str], Markup]:
    by_name = {picture.name: picture for picture in pictures}

    def show(name: str) -> Markup:
        """A picture, where the evaluation has it."""
        if name not in by_name:
            return Markup("")
        one = by_name[name]
        data = base64.b64encode(one.png).decode()
        return Markup('<figure><img alt="{}" src="data:image/png;base64,{}"></figure>').format(one.alt, data)

    return show


def number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def span(spread: Interval) -> str:
    return "none" if isnan(spread.low) else f"{spread.low:.3f}–{spread.high:.3f}"


def lead(value: float | None, spread: Interval | None) -> str:
    if value is None or spread is None:
        return ""
    return f"{value:+.3f}" + ("" if isnan(spread.low) else f" ({spread.low:+.3f} to {spread.high:+.3f})")
