"""Plots the curve that an operating point was chosen from. Reads the result of `tuning`, no config."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from router.learn.output import replaced
from router.learn.tune.operating_point import Point
from router.learn.tune.tuning import Found

if TYPE_CHECKING:
    from matplotlib.axes import Axes

INK, CHOSEN, NOW, GRID = "#1f4e79", "#c8384c", "#59636e", "#e6e9ed"
OTHERS = ("#e0912f", "#3a9d8f", "#8a63b0", "#8c8c8c", "#b5763a")


def draw(found: Found, path: Path) -> None:
    """Share of every member, dollars per 1,000 requests and mean predicted quality over the setting; the chosen point
    and the present one are marked. Raises ConfigError where the file cannot be written."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, panels = plt.subplots(3, 1, figsize=(7, 8.5), sharex=True, layout="constrained")
    figure.suptitle(f"{_asked(found)}\nChosen: routing.{found.setting} = {found.value:g}", fontsize=11)
    left = _left(found)
    _shares(panels[0], found, left)
    _line(panels[1], found, left, lambda point: point.usd_per_1k, "{:.4g}")
    panels[1].set_ylabel("$ per 1,000 requests")
    panels[1].set_ylim(bottom=0)
    _line(panels[2], found, left, lambda point: point.quality, "{:.4f}")
    panels[2].set_ylabel("mean predicted quality")
    panels[2].margins(y=0.12)
    panels[2].axhline(found.strong_quality, color=NOW, linestyle=":", linewidth=1)
    panels[2].text(
        0.995, found.strong_quality, f"always {found.members[found.strong]}", va="bottom", ha="right", fontsize=8,
        color=NOW, transform=panels[2].get_yaxis_transform(),
    )  # fmt: skip
    _axis(panels[2], found, left)
    try:
        with replaced("--plot", path) as file:
            figure.savefig(file, dpi=120, format=path.suffix[1:])
    finally:
        plt.close(figure)


def _asked(found: Found) -> str:
    strong, amount = found.members[found.strong], found.ask.amount
    asked = {
        "share": f"{amount:.1%} of requests on {strong}",
        "budget": f"${amount:.4g} per 1,000 requests",
        "quality": f"{amount:.1%} of {strong}'s quality",
    }[found.ask.kind]
    return f"Asked: {asked}, on {found.prompts} prompts"


def _left(found: Found) -> float:
    """Where the axis begins, shortly before anything moves; 0 is drawn there. Lambda is drawn by its logarithm."""
    marked = [value for value in (found.value, found.before) if value]
    moving = [point.dial for point in found.curve if point.dial > 0]
    first = min([*moving[len(moving) // 100 :], *marked])
    return first - 0.05 if found.setting == "threshold" else first / 1.3


def _axis(panel: "Axes", found: Found, left: float) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    panel.set_xlim(left=left)
    if found.setting == "threshold":
        panel.set_xlabel("threshold of the win rate")
        return
    panel.set_xscale("log")
    panel.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    panel.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    panel.xaxis.set_minor_formatter(NullFormatter())
    panel.set_xlabel("lambda: quality points per dollar")


def _shares(panel: "Axes", found: Found, left: float) -> None:
    colours = iter(OTHERS * len(found.members))
    dials = [max(point.dial, left) for point in found.curve]
    for i, member in enumerate(found.members):
        if i != found.strong:
            panel.plot(dials, [100 * p.shares[i] for p in found.curve], label=member, color=next(colours))
    _line(panel, found, left, lambda p: 100 * p.shares[found.strong], "{:.1f} %", found.members[found.strong])
    panel.set_ylabel("share of requests, %")
    panel.set_ylim(-4, 104)
    panel.legend(fontsize=8, loc="center left")


def _line(
    panel: "Axes", found: Found, left: float, height: Callable[[Point], float], form: str, label: str | None = None
) -> None:
    """One number over the setting, with the chosen point, and the present one where there is one."""
    panel.grid(color=GRID, linewidth=0.8)
    panel.set_axisbelow(True)
    panel.plot(
        [max(p.dial, left) for p in found.curve], [height(p) for p in found.curve], color=INK, linewidth=2, label=label
    )
    if found.before is not None:
        now = "now" if label else None
        panel.plot(max(found.before, left), height(found.now), "o", color=NOW, markerfacecolor="white", label=now)
    x, y = max(found.value, left), height(found.realised)
    panel.axvline(x, color=CHOSEN, linewidth=1, linestyle="--")
    panel.plot(x, y, "o", color=CHOSEN, markersize=7, label="chosen" if label else None)
    heights = [height(p) for p in found.curve]
    below = y > 0.5 * (min(heights) + max(heights))
    end = max(found.curve[-1].dial, x)
    late = x > 0.8 * end if found.setting == "threshold" else x > end / 2
    panel.annotate(
        form.format(y), (x, y), xytext=(-8 if late else 8, -16 if below else 8), textcoords="offset points",
        ha="right" if late else "left", color=CHOSEN,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1},
    )  # fmt: skip
