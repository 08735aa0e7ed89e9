"""The evaluation's plots. Knows figures, not where they came from."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, PercentFormatter
from matplotlib.transforms import Bbox

from router.learn.evaluate.results import Evaluation, Learnt, Many, ManyFigures, Pair, PairFigures
from router.learn.evaluate.style import GREY, MARKERS, Line, Picture, figure, legend, lines, picture, plain

TASKS = 15  #: bars at most
LETTER = 6.3  #: pixels, of a name
PANELS = 4  #: of a reliability diagram

Lines = Mapping[str, Line]


def draw(found: Evaluation) -> tuple[Picture, ...]:
    style = lines(found)
    return (*_of_pairs(found, style), *_of_tables(found, style), *_of_learning(found, style))


def _of_pairs(found: Evaluation, style: Lines) -> Iterator[Picture]:
    ours = [router.name for router in found.routers if router.kind != "baseline"]
    for i, pair in enumerate(found.pairs, 1):
        first = next((one for one in pair.routers if one.router in ours), None)
        yield quality_curve(pair, style, f"pair-{i}")
        yield reliability(pair, style, f"reliability-{i}")
        if first is not None and len(first.tasks) > 1:
            yield mistakes(pair, first, style, f"mistakes-{i}")


def _of_tables(found: Evaluation, style: Lines) -> Iterator[Picture]:
    for i, many in enumerate(found.many, 1):
        if many.single_aiq is not None:
            yield cost_curve(many, style, f"cost-{i}")
        if len(many.routers) and len(many.routers[0].tasks) > 1:
            yield regrets(many, style, f"regret-{i}")


def _of_learning(found: Evaluation, style: Lines) -> Iterator[Picture]:
    kinds = dict.fromkeys((one.table, one.what) for one in found.learning)
    for i, kind in enumerate(kinds, 1):
        yield learning([one for one in found.learning if (one.table, one.what) == kind], style, f"learning-{i}")


def quality_curve(pair: Pair, style: Lines, name: str) -> Picture:
    """Mean score of the mix, and the part of the gap that is recovered, over the share of strong calls."""
    made, (axes,) = figure(9.6, 4.8)
    span = pair.strong_score - pair.weak_score
    for one in pair.routers:
        line, shares = style[one.router], np.linspace(0, 1, len(one.pgr))
        score = pair.weak_score + span * np.array(one.pgr)
        label = plain(f"{one.router}  (APGR {one.apgr:.3f})")
        axes.plot(shares, score, color=line.colour, linestyle=line.dash, linewidth=line.width, label=label)
    for share, mean, model, marker in ((0, pair.weak_score, pair.weak, "o"), (1, pair.strong_score, pair.strong, "s")):
        label = plain(f"{model} alone  ({mean:.3f})")
        axes.plot([share], [mean], marker, color="black", markersize=7, clip_on=False, zorder=5, label=label)
    axes.set_xlim(0, 1)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel(plain(f"share of prompts sent to {pair.strong}"), fontsize=10)
    axes.set_ylabel("mean score of the routed mix", fontsize=10)
    recovered = axes.secondary_yaxis(
        "right",
        functions=(
            lambda y: (np.asarray(y) - pair.weak_score) / span,
            lambda p: pair.weak_score + span * np.asarray(p),
        ),
    )
    recovered.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    recovered.set_ylabel("gap recovered (PGR)", fontsize=10)
    legend(made, axes)
    title = f"{pair.weak} → {pair.strong}: quality over strong calls"
    axes.set_title(plain(f"{pair.table}, {pair.prompts} held-out prompts"), fontsize=10, loc="left", color=GREY)
    alt = "; ".join(f"{one.router} APGR {one.apgr:.3f}" for one in pair.routers)
    return picture(made, name, title, f"Score of the mix over the share of strong calls. {alt}.")


def reliability(pair: Pair, style: Lines, name: str) -> Picture:
    """Mean score over mean predicted quality, in bins of equally many prompts."""
    shown = [one for one in pair.routers if one.reliability_weak and one.router != "random"][:PANELS]
    made, axes = figure(2.2 + 2.5 * len(shown), 3.5, len(shown))
    for panel, one in zip(axes, shown, strict=True):
        panel.plot([0, 1], [0, 1], color="#b0b0b0", linewidth=1, linestyle="--")
        for bins, colour, marker, model in (
            (one.reliability_weak, "#0072B2", "o", pair.weak),
            (one.reliability_strong, "#D55E00", "s", pair.strong),
        ):
            x, y = [bin.predicted for bin in bins], [bin.scored for bin in bins]
            panel.plot(x, y, marker=marker, markersize=4.5, linewidth=1.2, color=colour, label=plain(model))
        panel.set_title(plain(f"{one.router}\nECE {one.ece_mass or 0:.3f}, Brier {one.brier or 0:.3f}"), fontsize=9)
        panel.set_xlim(0, 1)
        panel.set_ylim(0, 1)
        panel.set_aspect("equal")
        panel.set_xlabel("predicted quality", fontsize=9)
    axes[0].set_ylabel("mean score", fontsize=9)
    legend(made, axes[0])
    alt = "; ".join(f"{one.router} ECE {one.ece_mass or 0:.3f}" for one in shown)
    title = f"{pair.weak} → {pair.strong}: do predictions mean what they say?"
    return picture(made, name, title, f"Mean score over predicted quality, bins of equally many prompts. {alt}.")


def mistakes(pair: Pair, one: PairFigures, style: Lines, name: str) -> Picture:
    """Where one router sends the wrong prompts: the tasks of most mistakes."""
    worst = sorted(one.tasks, key=lambda task: -task.prompts * (task.missed + task.needless))[:TASKS]
    made, (axes,) = figure(8.6, 1.5 + 0.27 * len(worst))
    y = np.arange(len(worst))
    missed, needless = np.array([task.missed for task in worst]), np.array([task.needless for task in worst])
    axes.barh(y, missed, color="#D55E00", label="kept on the weak model,\nstrong scores higher")
    axes.barh(y, needless, left=missed, color="#56B4E9", label="sent to the strong model,\nweak scores as well")
    axes.set_yticks(y, [plain(f"{task.task or '(no task)'}  ({task.prompts})") for task in worst])
    axes.set_ylim(len(worst) - 0.4, -0.6)
    axes.grid(axis="y", visible=False)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.set_xlabel("share of the task's prompts", fontsize=10)
    legend(made, axes)
    title = f"{pair.weak} → {pair.strong}: where {one.router} errs"
    axes.set_title(_how_many(len(worst), len(one.tasks)), fontsize=10, loc="left", color=GREY)
    alt = "; ".join(f"{task.task} {task.missed:.0%} missed, {task.needless:.0%} needless" for task in worst[:5])
    return picture(made, name, title, f"Mistakes by task, most first: {alt}.")


def _how_many(shown: int, tasks: int) -> str:
    return f"all {tasks} tasks, the worst first" if shown == tasks else f"the worst {shown} of {tasks} tasks"


def cost_curve(many: Many, style: Lines, name: str) -> Picture:
    """Mean score over mean cost, from cost alone to quality alone; chance and single models as points."""
    made, (axes,) = figure(9.4, 5.2)
    for one in many.routers:
        line = style[one.router]
        points = [(1000 * point.cost_usd, point.score) for point in one.curve]
        label = plain(f"{one.router}  (AIQ {one.aiq or 0:.3f})")
        if one.router == "random":
            axes.plot(*points[0], "X", color=line.colour, markersize=8, label="random, whatever the cost")
        else:
            x, y = np.array(sorted(points)).T
            axes.plot(x, y, color=line.colour, linestyle=line.dash, linewidth=line.width, label=label)
    singles = np.array([(1000 * (model.cost_usd or 0), model.score) for model in many.models])
    axes.plot(*singles.T, "o", color="black", markersize=5, zorder=5, label="a model alone")
    free = not all(model.cost_usd for model in many.models)  # a model that costs nothing stands on no log scale
    if not free:
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(f"US dollars per 1,000 prompts{'' if free else ' (log scale)'}", fontsize=10)
    axes.set_ylabel("mean score", fontsize=10)
    legend(made, axes)
    axes.set_title(plain(f"{many.table}, {many.prompts} held-out prompts"), fontsize=10, loc="left", color=GREY)
    _name_singles(made, axes, many)
    alt = "; ".join(f"{one.router} AIQ {one.aiq or 0:.3f}" for one in many.routers)
    return picture(made, name, f"{many.table}: quality over cost", f"Mean score over cost per 1,000 prompts. {alt}.")


def _name_singles(made: Figure, axes: Axes, many: Many) -> None:
    """The best models are named first, and of the others those that find room."""
    best = sorted(many.models, key=lambda model: -model.score)
    at = [(1000 * (model.cost_usd or 0), model.score) for model in best]
    made.draw_without_rendering()  # now it is known where points lie
    taken = [Bbox.from_bounds(x - 4, y - 4, 8, 8) for x, y in axes.transData.transform(at)]
    for model, point in zip(best, at, strict=True):
        x, y = axes.transData.transform(point)
        width = LETTER * len(model.name)
        for left, side in ((x + 9, "left"), (x - 9 - width, "right")):
            box = Bbox.from_bounds(left, y - 6, width, 12)
            if axes.bbox.x0 < box.x0 and box.x1 < axes.bbox.x1 and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                axes.annotate(
                    plain(model.name), point, (7 if side == "left" else -7, -3), textcoords="offset points", fontsize=8,
                    ha=side, zorder=1,
                )  # fmt: skip
                break


def regrets(many: Many, style: Lines, name: str) -> Picture:
    """How far below the best model's scores contestants stay, by task."""
    first = many.routers[0]
    worst = sorted(first.tasks, key=lambda task: -task.prompts * task.regret)[:TASKS]
    names = [task.task for task in worst]
    made, (axes,) = figure(8.6, 1.5 + 0.27 * len(worst))
    for one in many.routers:
        if one.router != "oracle":
            _dots(axes, one, names, style[one.router])
    axes.set_yticks(range(len(worst)), [plain(f"{task.task or '(no task)'}  ({task.prompts})") for task in worst])
    axes.set_ylim(len(worst) - 0.4, -0.6)
    axes.set_xlim(left=0)
    axes.set_xlabel("mean score below the best model's", fontsize=10)
    legend(made, axes)
    axes.set_title(_how_many(len(worst), len(first.tasks)), fontsize=10, loc="left", color=GREY)
    alt = "; ".join(f"{task.task} {task.regret:.2f}" for task in worst[:5])
    return picture(made, name, f"{many.table}: where score is lost", f"Regret of {first.router} by task: {alt}.")


def _dots(axes: Axes, one: ManyFigures, tasks: Sequence[str], line: Line) -> None:
    regret = {task.task: task.regret for task in one.tasks}
    marker, face = MARKERS.get(one.router, "o"), "none" if one.router in MARKERS else line.colour
    values = [regret[task] for task in tasks]
    axes.plot(
        values,
        range(len(tasks)),
        marker,
        color=line.colour,
        markerfacecolor=face,
        markersize=6,
        label=plain(one.router),
    )


def learning(points: Sequence[Learnt], style: Lines, name: str) -> Picture:
    """A figure over the number of labelled prompts; the last point has all."""
    made, (axes,) = figure(8.6, 4.2)
    sizes = sorted({one.labels for one in points}, key=lambda size: (size == 0, size))
    for router in dict.fromkeys(one.router for one in points):
        own = sorted((one for one in points if one.router == router), key=lambda one: sizes.index(one.labels))
        x, line = [sizes.index(one.labels) for one in own], style[router]
        y = [one.value for one in own]
        axes.plot(x, y, "o", color=line.colour, linestyle=line.dash, linewidth=line.width, label=plain(router))
        axes.fill_between(x, [one.low for one in own], [one.high for one in own], color=line.colour, alpha=0.15)
    axes.set_xticks(range(len(sizes)), [f"{size:,}" if size else "all" for size in sizes])
    axes.set_xlabel("labelled prompts trained on", fontsize=10)
    axes.set_ylabel({"apgr": "APGR, held out", "accuracy": "accuracy, held out"}[points[0].figure], fontsize=10)
    legend(made, axes)
    axes.set_title(plain(f"{points[0].table}; band: 95 %"), fontsize=10, loc="left", color=GREY)
    alt = "; ".join(f"{one.router} from {one.labels or 'all'}: {one.value:.3f}" for one in points)
    return picture(
        made, name, f"{points[0].what.replace('->', '→')}: how many labels are enough?", f"{points[0].figure}: {alt}."
    )
