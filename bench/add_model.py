"""What 16, 64 and 256 labels of a new model are worth: `python bench/add_model.py`.

Six MMLU-Pro models are held out of a base; their labels come from prompts that it has not seen, and all is measured on
a third set of prompts. Added to the frozen base, with and without its strength told, against a whole new fit with the
same labels. Brier score of the new model's quality, and APGR of a pair with a model of the base. The last line is one
JSON object. Knows the names of the labels at hand.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import report

from router.heads import Artefact, checkpoint
from router.learn.data import outcomes
from router.learn.data.corpus import Corpus, join
from router.learn.data.folds import by_group
from router.learn.evaluate import metrics
from router.learn.fit import add_model, mf
from router.learn.fit.export import artefact, head
from router.learn.fit.recipe import SIZES, Recipe

Doubles = npt.NDArray[np.float64]
HELD_OUT = (
    "llama-3.1-70b-instruct", "gemini-1.5-flash-002", "qwen1.5-72b-chat", "mathstral-7b", "phi-3-mini-4k-instruct",
    "mistral-7b-instruct-v0.2",
)  # fmt: skip
#: Of a pair with a new model: the weak one where the new one is strong, else the strong one.
WEAK, STRONG = "llama-3.1-8b-instruct", "gemini-1.5-pro-002"
LABELS = (16, 64, 256)
TEST, POOL = 0, 1  #: folds


def main() -> None:
    arguments = report.parser(__doc__.splitlines()[0] if __doc__ else "", runs=1)
    default = report.ROOT.parent / "shared" / "data"
    arguments.add_argument("--data", type=Path, default=default, help="the tables' folder")
    arguments.add_argument("--draws", type=int, default=20, help="of labels, for models that are added")
    arguments.add_argument("--fits", type=int, default=2, help="of these draws, those that are fitted anew too")
    arguments.add_argument("--plot", type=Path, metavar="PNG", help="draw the learning curves")
    args = arguments.parse_args()
    recipe = SIZES["default"]
    if args.quick:
        recipe = msgspec.structs.replace(recipe, steps=2, static=0, word_rows=4096)
        args.draws, args.fits = 1, 1
    found = measure(args.data, recipe, args.draws, args.fits)
    if args.plot:
        draw(found, args.plot)
    report.finish(args, "add_model", found, distributions=("numpy", "scipy", "scikit-learn"))


class World(msgspec.Struct, frozen=True):
    corpus: Corpus
    made: mf.Features
    recipe: Recipe
    folds: npt.NDArray[np.int64]
    new: tuple[int, ...]  #: columns

    @property
    def test(self) -> npt.NDArray[np.bool_]:
        return self.folds == TEST

    def partner(self, new: int) -> int:
        strong = np.nanmean(self.corpus.scores[:, new]) > 0.55
        return self.corpus.column(WEAK if strong else STRONG)

    def drawn(self, new: int, labels: int, number: int) -> npt.NDArray[np.int64]:
        """Prompts of the pool that the new model answered."""
        there = np.flatnonzero((self.folds == POOL) & np.isfinite(self.corpus.scores[:, new]))
        return np.random.default_rng([number, new]).permutation(there)[:labels]

    def fitted(self, scores: npt.NDArray[np.float32], columns: npt.NDArray[np.int64]) -> Artefact:
        """The native head's fit of all labels but the tested prompts', as a checkpoint would hold it."""
        seen = Corpus(self.corpus.prompts, self.corpus.columns, scores, self.corpus.table)
        rows = ~self.test & np.isfinite(scores).any(axis=1)
        parts = mf.train(seen, self.made, rows, self.recipe)
        trained = head(self.made, parts, columns, self.recipe.columns)
        return artefact(seen, columns, self.made, trained)


def measure(data: Path, recipe: Recipe, draws: int, fits: int) -> dict[str, Any]:
    corpus = join([outcomes.read(data / "mmlu_pro.parquet")])
    report.progress("features")
    new = tuple(corpus.column(name) for name in HELD_OUT)
    world = World(corpus, mf.features(corpus, recipe), recipe, by_group(corpus.prompts, 5), new)
    figures: dict[tuple[str, int], list[tuple[int, float, float]]] = defaultdict(list)
    report.progress("the base, and a fit with all labels")
    for method, labels, column, quality, partner in (*_added(world, draws), *_anew(world, fits), *_whole(world)):
        figures[method, labels].append((column, *_judged(world, column, quality, partner)))
    out: dict[str, Any] = {"models": list(HELD_OUT), "prompts": int(world.test.sum()), "draws": draws, "fits": fits}
    for (method, labels), rows in figures.items():
        name = f"{method}_{labels}" if labels else method
        out |= {f"{name}_brier": _mean(rows, 1), f"{name}_apgr": _mean(rows, 2)}
        each = {HELD_OUT[new.index(c)]: [_mean([r for r in rows if r[0] == c], k) for k in (1, 2)] for c in new}
        out[f"{name}_each"] = each
    return out


Result = tuple[str, int, int, Doubles, Doubles]


def _added(world: World, draws: int) -> Iterator[Result]:
    """New models on a base that knows neither them nor the pool's prompts."""
    scores = world.corpus.scores.copy()
    scores[:, world.new] = np.nan
    scores[world.folds == POOL] = np.nan
    kept = np.array([i for i in range(len(world.corpus.columns)) if i not in world.new])
    base = checkpoint.of(world.fitted(scores, kept))
    hidden = add_model.hidden(base, [prompt.text for prompt in world.corpus.prompts])
    vectors = np.concatenate([base.vectors, base.bias[:, None]], axis=1)
    for new in world.new:
        partner = vectors[kept.tolist().index(world.partner(new))].astype(np.float64)
        known = _sigmoid(hidden[world.test] @ partner)
        strength = float(np.nanmean(world.corpus.scores[~world.test, new]))
        for method, told in (("added", None), ("with_strength", strength)):
            start = add_model.priors(base, told)
            for labels in (0, *LABELS):
                for number in range(draws if labels else 1):
                    rows = world.drawn(new, labels, number)
                    at = add_model.fit(hidden[rows], world.corpus.scores[rows, new], start)
                    yield method, labels, new, _sigmoid(hidden[world.test] @ at), known
        yield from _constant(world, new, draws)


def _constant(world: World, new: int, draws: int) -> Iterator[Result]:
    """The labels' mean (with one right and one wrong answer more) for every prompt: what Brier must beat."""
    flat = np.full(int(world.test.sum()), np.nan)
    for labels in LABELS:
        for number in range(draws):
            scores = world.corpus.scores[world.drawn(new, labels, number), new]
            yield "mean", labels, new, np.full_like(flat, (scores.sum() + 1) / (len(scores) + 2)), flat


def _anew(world: World, fits: int) -> Iterator[Result]:
    """A whole fit with the base's labels and the new models', all of them at once."""
    for labels in LABELS:
        for number in range(fits):
            report.progress(f"a whole fit with {labels} labels a new model, draw {number}")
            scores = world.corpus.scores.copy()
            scores[world.folds == POOL] = np.nan
            for new in world.new:
                rows = world.drawn(new, labels, number)
                scores[:, new] = np.nan
                scores[rows, new] = world.corpus.scores[rows, new]
            yield from _of(world, "retrained", labels, scores)


def _whole(world: World) -> Iterator[Result]:
    """With every label of the new models, thousands each."""
    yield from _of(world, "all_labels", 0, world.corpus.scores)


def _of(world: World, method: str, labels: int, scores: npt.NDArray[np.float32]) -> Iterator[Result]:
    made = checkpoint.of(world.fitted(scores, np.arange(len(world.corpus.columns))))
    texts = [prompt.text for prompt, tested in zip(world.corpus.prompts, world.test, strict=True) if tested]
    vectors = np.concatenate([made.vectors, made.bias[:, None]], axis=1).astype(np.float64)
    quality = _sigmoid(add_model.hidden(made, texts) @ vectors.T)
    for new in world.new:
        yield method, labels, new, quality[:, new], quality[:, world.partner(new)]


def _judged(world: World, new: int, quality: Doubles, partner: Doubles) -> tuple[float, float]:
    """Brier score, and the pair's APGR; NaN where no pair is told apart."""
    scores, others = world.corpus.scores[world.test, new], world.corpus.scores[world.test, world.partner(new)]
    known = np.isfinite(scores) & np.isfinite(others)
    brier = float(((quality - scores)[known] ** 2).mean())
    if not np.isfinite(partner).all():
        return brier, float("nan")
    scores, others, gain = scores[known], others[known], (quality - partner)[known]
    weak, strong, gain = (others, scores, gain) if scores.mean() > others.mean() else (scores, others, -gain)
    return brier, metrics.curve(weak, strong, gain).apgr


def _mean(rows: list[Any], k: int) -> float | None:
    values = [row[k] for row in rows]
    return round(float(np.mean(values)), 4) if np.isfinite(values).all() else None


def _sigmoid(z: Doubles) -> Doubles:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * z)))


def draw(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    methods = {
        "retrained": "a whole new fit",
        "added": "added",
        "with_strength": "added, strength told",
        "mean": "mean",
    }
    for axis, key, title in (
        (axes[0], "brier", "Brier score (lower is better)"),
        (axes[1], "apgr", "APGR of the pair"),
    ):
        for method, label in methods.items():
            values = [found.get(f"{method}_{labels}_{key}") for labels in LABELS]
            if None not in values:
                axis.plot(LABELS, values, marker="o", label=label)
        axis.axhline(found[f"all_labels_{key}"], color="gray", linestyle="--", label="all labels")
        axis.axhline(found[f"with_strength_{key}"], color="gray", linestyle=":", label="strength alone, no label")
        axis.set_xscale("log", base=2)
        axis.set_xticks(LABELS, [str(labels) for labels in LABELS])
        axis.set_xlabel("labels of the new model")
        axis.set_title(title)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=6, fontsize=8)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
