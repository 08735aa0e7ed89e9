"""Rows of `bench/quality.py` about whole pools and about what training and scoring cost."""

import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from quality_labels import LLAMA, ROUTELLM, TABLES, Labels

from router import heads
from router.heads import Claim
from router.learn.evaluate import costs, many, metrics, splits
from router.learn.evaluate.evaluation import preference, within
from router.learn.evaluate.metrics_cost import cost_of
from router.learn.fit.logistic import sigmoid
from router.learn.tune.operating_point import share_errors

Figures = dict[str, Any]
DRAWS = 200
#: $ per million tokens, of the data's README
PRICES = {
    "llama3-chatqa-1.5-8b": 0.2, "qwen2.5-7b-instruct": 0.2, "llama3-chatqa-1.5-70b": 0.9,
    "llama-3.1-nemotron-51b-instruct": 0.9, "mistral-7b-instruct-v0.3": 0.2, "gemma-2-9b-it": 0.1,
    "llama-3.1-8b-instruct": 0.2, "codegemma-7b": 0.2, "llama-3.3-nemotron-super-49b-v1": 0.9,
}  # fmt: skip
TWELVE = (
    "deepseek-coder-v2", "gemini-1.5-flash-002", "gemini-1.5-pro-002", "llama-3.1-70b-instruct",
    "llama-3.1-8b-instruct", "mistral-7b-instruct-v0.1", "mistral-7b-instruct-v0.2", "mixtral-8x7b-instruct-v0.1",
    "phi-3-mini-4k-instruct", "qwen1.5-72b-chat", "qwen1.5-7b-chat", "yi-6b-chat",
)  # fmt: skip
ENOUGH_S = 2.0


def nine(at: Labels) -> Figures:
    """`nine_saving`: cost saved against the best single model, at its accuracy, by a price on the mean costs of the
    training prompts; what is paid is the answers' own cost."""
    columns = [i for i, column in enumerate(at.corpus.columns) if column.table == 2]
    prices = {model: costs.Price(usd, usd) for model, usd in PRICES.items()}
    usd = costs.of_cells(at.tables, at.corpus, prices)
    protocol = splits.grouped(at.corpus, at.folds, 0)
    cells = many.cells(at.corpus, 2, TABLES[2], usd, costs.expected(usd, at.corpus, protocol.splits))
    curve = many.curve(cells, sigmoid(at.logits[np.ix_(cells.rows, cells.columns)]))
    assert cells.cost_usd is not None
    best = int(cells.scores.mean(0).argmax())
    paid, scored = np.array([one.cost_usd for one in curve]), np.array([one.score for one in curve])
    reached = cost_of(paid, scored, float(cells.scores[:, best].mean()))
    single = float(cells.cost_usd[:, best].mean())
    return {**_pool("nine", at, columns), "nine_saving": round(1 - reached / single, 4)}


def twelve(at: Labels) -> Figures:
    columns = [i for i, column in enumerate(at.corpus.columns) if column.table == 1 and column.model in TWELVE]
    assert len(columns) == len(TWELVE)
    return _pool("twelve", at, columns)


def _pool(name: str, at: Labels, columns: list[int]) -> Figures:
    """Accuracy of the highest predicted quality, over the prompts that all of the pool have answered."""
    rows = np.flatnonzero(np.isfinite(at.corpus.scores[:, columns]).all(1))
    scores = at.corpus.scores[np.ix_(rows, columns)].astype(np.float64)
    won = scores[np.arange(len(rows)), at.logits[np.ix_(rows, columns)].argmax(1)]
    best = int(scores.mean(0).argmax())
    by_task = _by_task(at.corpus.tasks[rows], at.grouped[rows], scores)
    draws = np.random.default_rng(0).integers(0, len(rows), (DRAWS, len(rows)))
    own = metrics.interval(np.array([won[one].mean() for one in draws]))
    lead = metrics.interval(np.array([(won - scores[:, best])[one].mean() for one in draws]))
    said = {
        "accuracy": won.mean(), "low": own.low, "high": own.high, "lead_low": lead.low, "lead_high": lead.high,
        "best_single": scores[:, best].mean(), "task_mean": by_task.mean(), "oracle": scores.max(1).mean(),
        "random": scores.mean(),
    }  # fmt: skip
    return {f"{name}_prompts": len(rows)} | {f"{name}_{key}": round(float(value), 4) for key, value in said.items()}


def _by_task(tasks: Any, folds: Any, scores: Any) -> Any:
    """The score of the model that is best on the prompt's task in the other folds. Needs the task's name."""
    out = np.zeros(len(tasks))
    for task in np.unique(tasks):
        for fold in np.unique(folds):
            test, train = (tasks == task) & (folds == fold), (tasks == task) & (folds != fold)
            if test.any():
                out[test] = scores[test, int((scores[train] if train.any() else scores).mean(0).argmax())]
    return out


def share_error(at: Labels) -> Figures:
    """Share really sent against share asked for, thresholds set on the other folds: the worst, in points."""
    worst = {}
    for name, pair in (
        ("mmlu", within(at.routellm, at.mmlu)), ("gsm8k", within(at.routellm, at.gsm8k)), ("mmlu_pro", at.llama),
    ):  # fmt: skip
        worst[name] = max(share_errors(preference(at.logits, pair), at.grouped[pair.rows]))
    return {"share_error": round(max(worst.values()), 3)} | {
        f"share_error_{key}": round(value, 3) for key, value in worst.items()
    }


def train(at: Labels) -> Figures:
    """`headgate train` as documented, on all tables with five held-out folds, in a process of its own on two cores."""
    paths = [str(at.data / f"{name}.parquet") for name in TABLES]
    paired = [f"--pair={','.join(pair)}" for pair in (ROUTELLM, LLAMA)]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "mf.safetensors"
        command = [sys.executable, "-m", "router.cli.main", "train", *paths, *paired, "--out", str(out), "--json"]
        start = time.monotonic()
        child = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "2"}
        )
        _, status, used = os.wait4(child.pid, 0)
        seconds = time.monotonic() - start
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, command)
        size = out.stat().st_size
    return {
        "train_s": round(seconds, 1), "train_cpu_s": round(used.ru_utime + used.ru_stime, 1),
        "train_gb": round(used.ru_maxrss / 1e6, 3), "train_bytes": size,
    }  # fmt: skip


def offline(at: Labels) -> Figures:
    """Prompts of all tables in one batch, scored for two models by the bundled checkpoint: a second of one core's."""
    head = heads.load("default", [Claim(name=name, like=name) for name in LLAMA])
    texts = at.texts(np.ones(len(at.corpus.prompts), bool))
    rates, until = [], time.monotonic() + ENOUGH_S
    while not rates or time.monotonic() < until:
        before = resource.getrusage(resource.RUSAGE_SELF)
        head.score_many(texts)
        after = resource.getrusage(resource.RUSAGE_SELF)
        used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        rates.append(len(texts) / used)
    return {"offline_per_s": round(float(np.median(rates))), "offline_chars": round(float(np.mean([*map(len, texts)])))}
