"""The style of plots: colours for colour-blind readers, sizes readable at 100 dpi, legends outside the axes."""

import io
import warnings
from collections.abc import Sequence

import msgspec
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from router.learn.evaluate.results import Evaluation

DPI = 100
#: Okabe and Ito's palette (2008), the yellow left out: it does not show on white
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
GREY = "#595959"
Dash = str | tuple[int, tuple[float, ...]]
MARKERS = {"random": "x", "task-mean": "D", "nearest": "^"}
BASELINES: dict[str, tuple[str, Dash]] = {
    "random": ("#9a9a9a", ":"),
    "task-mean": ("#7a7a7a", "--"),
    "nearest": ("#7a7a7a", "-."),
    "routellm": ("#3d3d3d", (0, (6, 1.5))),
    "oracle": ("#000000", (0, (1, 1))),
}


class Picture(msgspec.Struct, frozen=True):
    """A plot as a PNG file. `alt`: the same in words, for those who do not see it."""

    name: str
    title: str
    alt: str
    png: bytes


class Line(msgspec.Struct, frozen=True):
    """How one contestant is drawn, in every plot."""

    colour: str
    dash: Dash
    width: float


def lines(found: Evaluation) -> dict[str, Line]:
    """Contestants in colour, what stands beside them in greys."""
    ours = [router.name for router in found.routers if router.kind != "baseline"]
    out = {name: Line(colour, dash, 1.2) for name, (colour, dash) in BASELINES.items()}
    for i, name in enumerate(ours):
        out[name] = Line(COLOURS[i % len(COLOURS)], "-" if i < len(COLOURS) else "--", 2.0)
    return out


def figure(width: float, height: float, columns: int = 1) -> tuple[Figure, Sequence[Axes]]:
    """In inches; one row of axes."""
    made = Figure(figsize=(width, height), dpi=DPI, layout="constrained")
    FigureCanvasAgg(made)
    axes = made.subplots(1, columns, squeeze=False, sharey=columns > 1)[0]
    for one in axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(color="#e6e6e6", linewidth=0.8)
        one.set_axisbelow(True)
        one.tick_params(labelsize=9)
    return made, list(axes)


def legend(made: Figure, axes: Axes) -> None:
    """To the right of all, so that it covers no data and is cut by no edge."""
    handles, labels = axes.get_legend_handles_labels()
    made.legend(handles, labels, loc="outside right upper", frameon=False, fontsize=9)


def picture(made: Figure, name: str, title: str, alt: str) -> Picture:
    made.suptitle(plain(title), x=0.01, ha="left", fontsize=11)
    out = io.BytesIO()
    with warnings.catch_warnings():
        # Scripts that the plots' font lacks are drawn as boxes; the page's tables have the names.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        made.savefig(out, format="png", metadata={"Software": None})
    return Picture(name, title, alt, out.getvalue())


def plain(text: str) -> str:
    """A name as it is: no formula between dollar signs."""
    return text.replace("$", r"\$")
