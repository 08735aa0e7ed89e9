"""A run as one self-contained HTML page, which loads nothing from a network."""

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from router.learn.bench.figures import Estimate
from router.learn.bench.results import Found
from router.learn.bench.text import errors_text
from router.learn.evaluate.style import Picture

TEMPLATE = Path(__file__).parent / "bench.html"
_STYLE = Path(__file__).parent / "page.css"


def html(found: Found, pictures: Sequence[Picture]) -> str:
    return rendered(TEMPLATE, pictures, found=found, errors=errors_text)


def rendered(template: Path, pictures: Sequence[Picture], **values: object) -> str:
    """Names from files and servers are escaped: a page of strangers' data runs nothing."""
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.globals |= {"number": number, "span": span, "style": Markup(_STYLE.read_text(encoding="utf-8"))}
    text = environment.from_string(template.read_text(encoding="utf-8"))
    return text.render(pictures=[_figure(one) for one in pictures], **values)


def _figure(one: Picture) -> Markup:
    data = base64.b64encode(one.png).decode()
    return Markup('<figure><img alt="{}" src="data:image/png;base64,{}"></figure>').format(one.alt, data)


def number(one: Estimate | None, digits: int) -> str:
    return "–" if one is None else f"{one.value:.{digits}f}"


def span(one: Estimate | None, digits: int) -> str:
    if one is None or one.low is None or one.high is None:
        return ""
    return f"{one.low:.{digits}f}–{one.high:.{digits}f}"
