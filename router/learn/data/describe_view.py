"""Prints a description: rich tables on a terminal, plain ones elsewhere; a heat map of models by tasks."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from router.errors import ConfigError
from router.learn.data.describe import Description, Table
from router.learn.output import replaced

TASKS = 12  #: rows of the table of tasks; JSON has all
SHOWN = 8  #: suspicious cells, and leaks between tables, before the rest is counted


def show(found: Description, file: TextIO = sys.stdout) -> None:
    from rich.console import Console

    console = Console(file=file, width=None if file.isatty() else 160)
    for table in found.tables:
        console.print(_heading(table), highlight=False, soft_wrap=True)
        console.print(_models(table))
        if len(table.tasks) > 1 or any(task.name for task in table.tasks):
            console.print(_tasks(table))
        for line in _faults(table):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
    for leak in found.leaks:
        console.print(
            f"! {leak.groups} questions stand in {leak.one} ({leak.prompts} prompts) and in {leak.other} too",
            highlight=False, soft_wrap=True, markup=False,
        )  # fmt: skip


def plot(found: Description, path: Path) -> None:
    """Mean scores of models (columns) on tasks (rows), a panel a table of outcomes. Raises ConfigError."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.figure import Figure

    tables = [table for table in found.tables if table.tasks]
    if not tables:
        raise ConfigError("--plot: expected a table of outcomes, got battles only")
    heights = [1.6 + 0.22 * len(table.tasks) for table in tables]
    width = 4 + 0.32 * max(len(table.models) for table in tables)
    figure: Figure
    figure, axes = pyplot.subplots(
        len(tables), 1, figsize=(width, sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for table, axis in zip(tables, axes[:, 0], strict=True):
        _panel(table, axis)
    try:
        with replaced("--plot", path) as file:
            figure.savefig(file, dpi=120, format=path.suffix[1:])
    finally:
        pyplot.close(figure)


def _panel(table: Table, axis: Any) -> None:
    import numpy as np

    order = sorted(range(len(table.models)), key=lambda j: -table.models[j].score)
    means = np.array([[np.nan if task.scores[j] is None else task.scores[j] for j in order] for task in table.tasks])
    image = axis.imshow(means, aspect="auto", vmin=0, vmax=1, cmap="viridis")
    axis.set_xticks(range(len(order)), [table.models[j].name for j in order], rotation=90, fontsize=7)
    axis.set_yticks(range(len(table.tasks)), [task.name or "(no task)" for task in table.tasks], fontsize=7)
    axis.set_title(Path(table.path).name, fontsize=9)
    axis.figure.colorbar(image, ax=axis, label="mean score")
    at = {(one.task, one.model) for one in table.suspicious}
    for i, task in enumerate(table.tasks):
        for k, j in enumerate(order):
            if (task.name, table.models[j].name) in at:
                axis.text(k, i, "x", ha="center", va="center", color="red", fontsize=8)


def _heading(table: Table) -> str:
    parts = [f"{table.rows:,} {table.kind}", f"{table.prompts:,} prompts", f"{table.groups:,} questions"]
    parts += (
        [f"{len(table.models)} models", f"{len(table.tasks)} tasks"] if table.tasks else [f"{len(table.models)} models"]
    )
    if table.measures:
        parts.append(f"with {', '.join(table.measures)}")
    if table.splits:
        parts.append("splits " + ", ".join(f"{name} {count:,}" for name, count in sorted(table.splits.items())))
    return f"\n[bold]{table.path}[/]: {'; '.join(parts)}"


def _models(table: Table) -> object:
    from rich.table import Table as Drawn

    battle = table.kind == "battles"
    drawn = Drawn("model", "battles" if battle else "labels", "share won" if battle else "mean score", box=None)
    for column in drawn.columns[1:]:
        column.justify = "right"
    for model in sorted(table.models, key=lambda model: -model.score):
        drawn.add_row(model.name, f"{model.prompts:,}", f"{model.score:.4f}")
    return drawn


def _tasks(table: Table) -> object:
    """The largest tasks, with the spread over models."""
    from rich.table import Table as Drawn

    drawn = Drawn("task", "prompts", "lowest", "median", "highest", "chance", box=None)
    for column in drawn.columns[1:]:
        column.justify = "right"
    for task in sorted(table.tasks, key=lambda task: -task.prompts)[:TASKS]:
        scores = sorted(score for score in task.scores if score is not None)
        three = scores[0], scores[len(scores) // 2], scores[-1]
        chance = "" if task.chance is None else f"{task.chance:.2f}"
        drawn.add_row(task.name or "(none)", f"{task.prompts:,}", *(f"{score:.3f}" for score in three), chance)
    if len(table.tasks) > TASKS:
        drawn.add_row(f"... and {len(table.tasks) - TASKS} more (--json)")
    return drawn


def _faults(table: Table) -> Iterator[str]:
    cells = table.prompts * len(table.models)
    if table.missing:
        yield f"! {table.missing:,} of {cells:,} cells have no label"
    if table.repeated:
        differing = f"{table.contradictions:,} with different scores"
        yield f"! {table.repeated:,} cells have several rows, {differing} (means are used)"
    if table.copies:
        yield f"! {table.copies:,} prompts are a copy of another's text under another id"
    for leak in table.leaks:
        prompts = f"({leak.prompts:,} prompts)"
        yield f"! {leak.groups:,} questions of split {leak.one} {prompts} stand in split {leak.other} too"
    for one in table.suspicious[:SHOWN]:
        yield (
            f"! {one.model} on {one.task or '(no task)'} scores {one.score:.3f}, {one.why} ({one.expected:.3f}; "
            f"{one.prompts:,} labels): look whether its answers were read right"
        )
    if len(table.suspicious) > SHOWN:
        yield f"! and {len(table.suspicious) - SHOWN} more such means (--json)"
