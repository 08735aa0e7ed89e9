"""Accuracy over engine seconds, every policy in one plot."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from moments_curves import Curve

matplotlib.use("Agg")
import matplotlib.pyplot as plt

_WORDS = {
    "alone": "each model alone", "auto": "Headgate, auto", "handoff": "Headgate, during the answer",
    "before": "Headgate, before only",
    "least": "threshold on least log-probability", "mean": "threshold on mean log-probability",
    "length": "length rule",
}  # fmt: skip


def draw(curves: Mapping[str, Curve], path: Path) -> None:
    figure, axes = plt.subplots(figsize=(8, 5), dpi=150)
    for name, curve in curves.items():
        x = [point.engine_s * 1e3 for point in curve.points]
        y = [point.accuracy for point in curve.points]
        style = {"auto": "o-", "handoff": ".--", "before": ".--", "alone": "s"}.get(name, "x")
        axes.plot(x, y, style, label=_WORDS[name], linewidth=2.5 if name == "auto" else 1.2)
    axes.set_xlabel("engine CPU ms a question")
    axes.set_ylabel("share of answers that are right")
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
    plt.close(figure)
