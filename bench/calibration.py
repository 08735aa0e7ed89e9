"""What calibration is worth and how near shares come, held out: `python bench/calibration.py`; docs/calibration.md.

Five folds, grouped by question across tables; a fold is calibrated by what the fits said of the other four. The last
line is one JSON object. Knows the names of the labels at hand.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import timeit
from pathlib import Path
from typing import Any, get_args

import msgspec
import numpy as np
import numpy.typing as npt
import report

from router import heads
from router.heads import Claim
from router.heads.curves import Curves, X, Y, uncurved
from router.learn.data import outcomes
from router.learn.data.corpus import Corpus, join
from router.learn.data.folds import by_group, training_rows
from router.learn.evaluate import served
from router.learn.evaluate.metrics import brier
from router.learn.evaluate.metrics_calibration import ece, equal_mass
from router.learn.fit.calibration import Method, knots
from router.learn.fit.logistic import sigmoid
from router.learn.fit.recipe import SIZES
from router.learn.routers.mf import MfTrainer
from router.learn.tune import operating_point as op

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.bool_]
TABLES = ("routellm_pairs", "mmlu_pro", "llmrouter_9models")
PAIRS = {
    "mmlu": (0, "mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview"),
    "gsm8k": (0, "mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview"),
    "mmlu_pro": (1, "llama-3.1-8b-instruct", "llama-3.1-70b-instruct"),
}
CLAIMS = (Claim(name="small", like="llama-3.1-8b-instruct"), Claim(name="large", like="llama-3.1-70b-instruct"))
QUERY = (("What is the capital of France, and why does it matter to history?", 1.0),)
GOALS = tuple(report.Goal(f"{name}_share_error", 2.0) for name in PAIRS)
SAMPLES, DRAWS = (100, 300, 1000, 3000), 300


def main() -> None:
    arguments = report.parser(__doc__.splitlines()[0] if __doc__ else "", runs=1)
    arguments.add_argument(
        "--data", type=Path, default=report.ROOT.parent / "shared" / "data", help="the tables' folder"
    )
    args = arguments.parse_args()
    recipe = SIZES["default"]
    if args.quick:
        recipe = msgspec.structs.replace(recipe, steps=2, static=0, word_rows=4096)
    corpus = join([outcomes.read(args.data / f"{name}.parquet") for name in TABLES])
    folds = by_group(corpus.prompts, 5)
    report.progress("held-out fits")
    trainer = MfTrainer(corpus, recipe)
    logits = trainer.held_out(folds)
    report.progress("calibration and shares")
    tests = {
        "mmlu": np.char.startswith(corpus.tasks, "mmlu/"),
        "gsm8k": (corpus.tasks == "gsm8k") & (corpus.table == 0),
        "mmlu_pro": corpus.table == 1,
        "nine": corpus.table == 2,
    }
    figures = {**sureness(corpus, tests, folds, logits), **shares(corpus, tests, folds, logits), **decision_us()}
    report.progress("shares chosen on prompts of the training")
    figures |= chosen_on_training(corpus, tests, folds, trainer)
    report.finish(args, "calibration", figures, goals=GOALS, distributions=("numpy", "scipy", "scikit-learn"))


def sureness(corpus: Corpus, tests: dict[str, Rows], folds: npt.NDArray[np.int64], logits: Floats) -> dict[str, float]:
    """Brier score and calibration error (points) by test and method: means over the table's models."""
    out = {}
    for method in get_args(Method):
        quality = sigmoid(held_out(corpus, folds, logits, method))
        for name, rows in tests.items():
            found = []
            for column in range(len(corpus.columns)):
                known = rows & np.isfinite(corpus.scores[:, column]) & np.isfinite(quality[:, column])
                if known.any():
                    score, said = corpus.scores[known, column], quality[known, column]
                    found.append((brier(score, said), 100 * ece(equal_mass(score, said))))
            for key, value in zip(("brier", "ece"), np.mean(found, axis=0), strict=True):
                out[f"{name}_{key}_{method}"] = round(float(value), 4)
    return out


def held_out(corpus: Corpus, folds: npt.NDArray[np.int64], logits: Floats, method: Method) -> Floats:
    """Log odds [prompts, columns], each fold calibrated by the others."""
    if method == "none":
        return logits
    out = np.full(logits.shape, np.nan, np.float32)
    for fold in range(folds.max() + 1):
        test = folds == fold
        curves = Curves(*knots(logits[~test], corpus.scores[~test], method))
        out[test] = np.where(np.isfinite(logits[test]), curves(np.nan_to_num(logits[test])), np.nan)
    return out


def shares(corpus: Corpus, tests: dict[str, Rows], folds: npt.NDArray[np.int64], logits: Floats) -> dict[str, Any]:
    """Realised shares against those asked for, by prompts' predicted gain; how wrong few or other prompts are."""
    out: dict[str, Any] = {}
    gains = {}
    for name, (table, weak, strong) in PAIRS.items():
        low, high = (sigmoid(logits[:, corpus.column(model, table)]) for model in (weak, strong))
        gains[name] = np.where(tests[name], high - low, np.nan)
        errors = op.share_errors(gains[name], folds)
        out[f"{name}_share_error"] = round(max(errors), 2)
        out[f"{name}_share_errors"] = [round(error, 2) for error in errors]
        out[f"{name}_share_error_of_one_fold"] = round(worst_fold(gains[name], folds), 2)
    mmlu, gsm8k = (gains[name][np.isfinite(gains[name])] for name in ("mmlu", "gsm8k"))
    out["mmlu_30_on_gsm8k"] = round(100 * float((gsm8k >= op.share_threshold(mmlu, 0.3)).mean()), 1)
    out["gsm8k_30_on_mmlu"] = round(100 * float((mmlu >= op.share_threshold(gsm8k, 0.3)).mean()), 1)
    _, index = np.unique(corpus.tasks, return_inverse=True)
    subjects = np.where(tests["mmlu"], index % 5, -1)
    out["mmlu_other_subjects_share_errors"] = [round(e, 2) for e in op.share_errors(gains["mmlu"], subjects)]
    out["mmlu_other_subjects_share_error_of_one_fold"] = round(worst_fold(gains["mmlu"], subjects), 2)
    draw = np.random.default_rng(0)
    for size in SAMPLES:
        thresholds = [op.share_threshold(draw.choice(mmlu, size), 0.3) for _ in range(DRAWS)]
        off = [abs(float((mmlu >= threshold).mean()) - 0.3) for threshold in thresholds]
        out[f"mmlu_off_by_95_{size}"] = round(100 * float(np.quantile(off, 0.95)), 1)
    return out


def chosen_on_training(
    corpus: Corpus, tests: dict[str, Rows], folds: npt.NDArray[np.int64], trainer: MfTrainer
) -> dict[str, list[float]]:
    """One fit's errors where the threshold is set on the prompts that it was trained on, and realised on fold 0."""
    rows = training_rows(corpus.prompts, folds == 0)
    artefact = trainer.fit(rows, np.arange(len(corpus.columns)))
    quality = sigmoid(served.predict(artefact, [prompt.text for prompt in corpus.prompts]))
    out = {}
    for name, (table, weak, strong) in PAIRS.items():
        gain = quality[:, corpus.column(strong, table)] - quality[:, corpus.column(weak, table)]
        seen, new = gain[tests[name] & rows], gain[tests[name] & (folds == 0)]
        off = [float((new >= op.share_threshold(seen, share)).mean()) - share for share in op.SHARES]
        out[f"{name}_share_off_after_training"] = [round(100 * one, 1) for one in off]
    return out


def worst_fold(gain: Floats, folds: npt.NDArray[np.int64]) -> float:
    """The largest error of a single fold, in points: what pooling hides."""
    found = []
    for fold in range(folds.max() + 1):
        known = np.isfinite(gain) & (folds >= 0)
        mine, others = gain[known & (folds == fold)], gain[known & (folds != fold)]
        found += [100 * abs(float((mine >= op.share_threshold(others, s)).mean()) - s) for s in op.SHARES]
    return max(found)


def decision_us() -> dict[str, float]:
    """One query through the bundled checkpoint, two members: with its lines folded in, and with curves."""
    plain = uncurved(heads.read(heads.DEFAULT))
    x = np.tile(np.linspace(-4, 4, 34, dtype=np.float32), (len(plain.meta.models), 1))
    curved = msgspec.structs.replace(plain, arrays={**plain.arrays, X: x, Y: 1.1 * x})
    out = {}
    for name, artefact in (("line", plain), ("curve", curved)):
        head = heads.make(artefact, CLAIMS)
        best = min(timeit.repeat(lambda head=head: head.score(QUERY), number=1000, repeat=9))
        out[f"decision_us_{name}"] = round(1000 * best, 2)
    return out


if __name__ == "__main__":
    main()
