"""A run as pictures: the Pareto front of quality, loaded throughput and dollars, and what load does to each policy."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator

from router.learn.bench.figures import Estimate, Measured
from router.learn.bench.results import Found, Loaded
from router.learn.evaluate.style import COLOURS, GREY, Picture, figure, legend, picture, plain

_MARKERS = "osD^vPX<>*"


def draw(found: Found) -> list[Picture]:
    return [_pareto(found), *_load(found)]


def _pareto(found: Found) -> Picture:
    """The same points twice: quality over dollars, quality over throughput; ungraded, throughput over dollars alone."""
    throughput = "goodput at load, requests/s" if found.slo else "answers at load, requests/s"
    dollars = "USD per thousand good answers" if found.graded else "USD per million output tokens"
    priced = any(one.usd for one in found.loaded)
    panels = ([(dollars, "quality")] if priced else []) + [(throughput, "quality")]
    if not found.graded:
        panels = [(dollars, throughput)] if priced else [("", throughput)]
    made, axes = figure(5.2 * len(panels) + 1.8, 4.4, len(panels))
    for one, (x, y) in zip(axes, panels, strict=True):
        _points(one, found, x, y, dollars, throughput)
    made.text(0.01, 0.005, "filled: on the front of quality, throughput and dollars together", fontsize=8, color=GREY)
    made.get_layout_engine().set(rect=(0, 0.04, 1, 0.96))  # type: ignore[union-attr,call-arg]
    legend(made, axes[-1])  # where a policy without a price stands too
    told = "; ".join(_words(one) for one in found.loaded)
    return picture(made, "pareto", "Quality, loaded throughput and dollars", f"Pareto front. {told}")


def _points(axes: Axes, found: Found, x: str, y: str, dollars: str, throughput: str) -> None:
    def value(one: Loaded, what: str) -> Estimate | None:
        return {dollars: one.usd, throughput: one.throughput, "quality": one.quality}.get(what)

    for i, one in enumerate(found.loaded):
        across, up = value(one, x) if x else Estimate(float(i)), value(one, y)
        if across is None or up is None:
            continue
        colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[i % len(_MARKERS)]
        axes.errorbar(
            across.value, up.value, xerr=_bar(across), yerr=_bar(up), fmt=marker, color=colour, markersize=9,
            markerfacecolor=colour if one.front else "white", markeredgewidth=1.6, elinewidth=1, capsize=2,
            label=plain(f"{one.policy} ({one.level})"),
        )  # fmt: skip
    axes.set_xlabel(x, fontsize=10)
    axes.set_ylabel(y, fontsize=10)
    axes.margins(0.12)
    if x:
        axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)


def _bar(one: Estimate) -> list[list[float]] | None:
    if one.low is None or one.high is None:
        return None
    return [[max(0.0, one.value - one.low)], [max(0.0, one.high - one.value)]]


def _words(one: Loaded) -> str:
    quality = f", quality {one.quality.value:.3f}" if one.quality else ""
    usd = f", {one.usd.value:.4g} USD" if one.usd else ""
    front = ", on the front" if one.front else ""
    return f"{one.policy} at {one.level}: {one.throughput.value:.3g}/s{quality}{usd}{front}"


_CURVES = (
    ("answered", "requests_per_s", "answers, requests/s"),
    ("goodput", "goodput_per_s", "goodput, requests/s"),
    ("ttft", "ttft_p95_ms", "TTFT p95, ms"),
    ("tpot", "tpot_p95_ms", "TPOT p95, ms"),
    ("quality", "quality", "quality"),
)


def _load(found: Found) -> list[Picture]:
    """A curve over the load for each figure; none where there is one level."""
    levels = list(dict.fromkeys(one.level for one in found.measured))
    if len(levels) < 2:
        return []
    out = []
    for name, key, title in _CURVES:
        if any(key in one.figures for one in found.measured):
            out.append(_curve(found.measured, name, key, title))
    return out


class Series(NamedTuple):
    """One line of a picture, and its interval where there is one."""

    label: str
    x: Sequence[float]
    y: Sequence[Estimate]


def _curve(measured: Sequence[Measured], name: str, key: str, title: str) -> Picture:
    lines = []
    for policy in dict.fromkeys(found.policy for found in measured):
        mine = [found for found in measured if found.policy == policy and key in found.figures]
        lines.append(Series(policy, [found.rate for found in mine], [found.figures[key] for found in mine]))
    about = f"{title} of each policy over the rate of requests"
    return curve(lines, f"load_{name}", f"{title} over load", title, "load, requests/s", about)


def curve(lines: Sequence[Series], name: str, title: str, up: str, across: str, about: str) -> Picture:
    """`up` over `across`; milliseconds on a logarithmic scale."""
    made, axes = figure(6.4, 3.4)
    (one,) = axes
    for i, line in enumerate(lines):
        colour, marker = COLOURS[i % len(COLOURS)], _MARKERS[i % len(_MARKERS)]
        one.plot(line.x, [v.value for v in line.y], marker=marker, color=colour, linewidth=1.6, label=plain(line.label))
        low = [v.value if v.low is None else v.low for v in line.y]
        high = [v.value if v.high is None else v.high for v in line.y]
        one.fill_between(line.x, low, high, color=colour, alpha=0.15, linewidth=0)
    one.set_xlabel(across, fontsize=10)
    one.set_ylabel(up, fontsize=10)
    if up.endswith(" ms") and all(v.value > 0 for line in lines for v in line.y):
        one.set_yscale("log")
        one.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
        for axis in (one.yaxis.set_major_formatter, one.yaxis.set_minor_formatter):
            axis(FuncFormatter(lambda value, _: f"{value:g}"))
    else:
        one.set_ylim(bottom=0)
    legend(made, one)
    return picture(made, name, title, about)
