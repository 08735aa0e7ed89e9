"""Rows of `bench/quality.py` that weigh a weak model against a strong one: APGR, CPT50, CPT80, and baselines beside."""

from typing import Any

import baselines
import msgspec
import numpy as np
import numpy.typing as npt
from leave_models import held_out_models
from quality_labels import LLAMA, Floats, Labels, Rows

from router.learn.data.folds import by_task, training_rows, waits
from router.learn.evaluate import metrics
from router.learn.evaluate.evaluation import Pair, labels, preference, within

Figures = dict[str, Any]
DRAWS = 200
FEW = 1500  #: labelled prompts of `mmlu_1k5`
REPEATS = 5  #: draws of them; curves are averaged
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


def mmlu(at: Labels) -> Figures:
    return _measured("mmlu", at, within(at.routellm, at.mmlu), at.grouped, at.logits)


def gsm8k(at: Labels) -> Figures:
    return _measured("gsm8k", at, within(at.routellm, at.gsm8k), at.grouped, at.logits)


def mmlu_pro(at: Labels) -> Figures:
    return _measured("mmlu_pro", at, at.llama, at.grouped, at.logits)


def mmlu_ood(at: Labels) -> Figures:
    """Whole MMLU subjects left out. The RouteLLM table alone is trained on: no other speaks of these two models."""
    folds = np.full(len(at.corpus.prompts), -1)
    folds[at.mmlu] = by_task([p for p, chosen in zip(at.corpus.prompts, at.mmlu, strict=True) if chosen], at.folds)
    found = np.full(at.corpus.scores.shape, np.nan, np.float32)
    for fold in range(at.folds):
        train = training_rows(at.corpus.prompts, folds == fold) & (at.corpus.table == 0)
        found[folds == fold] = at.fit_and_ask(train, folds == fold)
    return _measured("mmlu_ood", at, within(at.routellm, at.mmlu), folds, found)


def transfer(at: Labels) -> Figures:
    """GSM8K, after training on all tables but every GSM8K question in them, those of other splits and languages too."""
    test = at.gsm8k
    train = training_rows(at.corpus.prompts, test) & ~at.any_gsm8k
    found = np.full(at.corpus.scores.shape, np.nan, np.float32)
    found[test] = at.fit_and_ask(train, test)
    return _measured("transfer", at, at.routellm, np.where(test, 0, -1), found)


def mmlu_1k5(at: Labels) -> Figures:
    """MMLU from 1,500 labelled MMLU prompts and no other label at all; mean curve of several draws of them."""
    curves, theirs, size = [], [], 0
    for draw in range(REPEATS):
        train = _drawn(at, draw)
        test = at.mmlu & training_rows(at.corpus.prompts, train)
        found = np.full(at.corpus.scores.shape, np.nan, np.float32)
        found[test] = at.fit_and_ask(train, test)
        folds = np.where(test, 0, -1)
        pair = within(at.routellm, at.mmlu & (train | test))
        said = {"ours": preference(found, within(pair, test)), "routellm": _routellm(at, pair, folds)}
        gap = labels(at.corpus, within(pair, test))
        curves.append(metrics.curve(*gap, said["ours"]))
        theirs.append(metrics.curve(*gap, said["routellm"]))
        size = max(size, int(test.sum()))
    mean = {key: float(np.mean([one.cpt(reach) for one in curves])) for key, reach in (("cpt50", 0.5), ("cpt80", 0.8))}
    each = [one.apgr for one in curves]
    lead = [ours - other.apgr for ours, other in zip(each, theirs, strict=True)]
    return {
        f"mmlu_1k5_{key}": round(value, 4)
        for key, value in {
            "prompts": size, "apgr": float(np.mean(each)), **mean, "low": min(each), "high": max(each),
            "routellm_apgr": float(np.mean([one.apgr for one in theirs])), "lead_low": min(lead),
            "lead_high": max(lead),
        }.items()
    }  # fmt: skip


def strength(at: Labels) -> Figures:
    """Models that no fit has seen, placed by their strength alone."""
    placed = held_out_models(at.corpus, at.made, at.grouped, at.recipe, 1, UNSEEN, at.logits)
    return {
        "strength_apgr": round(float(np.mean([one.apgr for one in placed])), 4),
        "strength_trained_apgr": round(float(np.mean([one.trained_apgr for one in placed])), 4),
        "strength_pairs": [
            {**msgspec.to_builtins(one), "apgr": round(one.apgr, 4), "trained_apgr": round(one.trained_apgr, 4)}
            for one in placed
        ],
    }


def _drawn(at: Labels, draw: int) -> Rows:
    order = np.argsort(np.where(at.mmlu, waits(at.corpus.prompts, draw), np.iinfo(np.uint64).max), kind="stable")
    chosen = np.zeros(len(order), bool)
    chosen[order[:FEW]] = True
    return chosen


def _measured(name: str, at: Labels, pair: Pair, folds: npt.NDArray[np.int64], found: Floats) -> Figures:
    """Ours with its interval, and every baseline on the same prompts and folds. `pair`: what baselines may train on."""
    test = within(pair, folds >= 0)
    weak, strong = labels(at.corpus, test)
    ours, theirs = preference(found, test), _routellm(at, pair, folds)
    curve = metrics.curve(weak, strong, ours)
    paired = metrics.bootstrap(weak, strong, [ours, theirs], DRAWS)
    own, lead = metrics.interval(paired[:, 0]), metrics.interval(paired[:, 0] - paired[:, 1])
    tested = folds[pair.rows] >= 0
    beside = {
        "routellm": theirs,
        "knn": baselines.neighbours(at.corpus, at.made, folds, pair)[tested],
        "random": baselines.chance(test),
        "oracle": baselines.oracle(at.corpus, test),
    }
    if name not in ("mmlu_ood", "transfer"):  # a task without a training prompt has no mean
        beside["task_mean"] = baselines.task_mean(at.corpus, folds, pair)[tested]
    said = {
        "apgr": curve.apgr, "cpt50": curve.cpt(0.5), "cpt80": curve.cpt(0.8), "low": own.low, "high": own.high,
        **{f"{key}_apgr": metrics.curve(weak, strong, preferred).apgr for key, preferred in beside.items()},
        "lead_low": lead.low, "lead_high": lead.high,
    }  # fmt: skip
    return {f"{name}_prompts": len(weak)} | {f"{name}_{key}": round(value, 4) for key, value in said.items()}


def _routellm(at: Labels, pair: Pair, folds: npt.NDArray[np.int64]) -> Floats:
    return baselines.routellm(at.corpus, at.made, folds, pair, at.recipe)[folds[pair.rows] >= 0]
