"""Tables with answers, as plans see them: what was thought before and after each answer, and how it went meanwhile.

All chances are held out: five folds by question; what is fitted on them (knots, spread, correlation) comes from the
other folds. A token of the small model costs 1, of the large one `RATIO`, one that the large one reads `READ`.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import answers
import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow.parquet as pq

from router.learn.data.corpus import join
from router.learn.data.folds import by_group
from router.learn.data.outcomes import Outcomes, read
from router.learn.evaluate import served
from router.learn.fit.logistic import sigmoid
from router.learn.fit.recipe import SIZES, Recipe
from router.learn.routers import make
from router.learn.verifier import held_out
from router.learn.verifier.spread import correlation, spread
from router.verify.evidence import CHARS_A_TOKEN, Evidence
from router.verify.stated import CORRELATION
from router.watched import MOST_KNOTS, Statistic

Floats = npt.NDArray[np.float64]
Folds = npt.NDArray[np.int64]
OnStage = Callable[[str], None]

RATIO, READ = 5.0, 0.25
FOLDS = 5
CLOUD_QUALITY = 0.92  #: of the large model of `evidence`, which has answers of one model only
FIRST_KNOT = 8
KNOTS = (0.2, 0.35, 0.5, 0.65, 0.8, 0.88, 0.95)  #: after the first, quantiles of the answers' lengths


class Running(msgspec.Struct, frozen=True):
    """`router.policy.plan.Running`."""

    statistic: Statistic
    tokens: tuple[float, ...]
    intercept: tuple[float, ...]
    slope: tuple[float, ...]
    prior_weight: tuple[float, ...]
    left: tuple[float, ...]


class Fitted(msgspec.Struct, frozen=True):
    """What a plan knows of one table but for one fold."""

    tokens: float  #: of a small answer, mean
    spread: float  #: of what is thought of it, before it begins
    left_spread: float  #: and while it runs
    correlation: float
    lengths: Running
    running: Running  #: by the statistic; `lengths` where there is none


class Table(msgspec.Struct, frozen=True):
    """[prompts] each; `traces[i]` [tokens]: the moving mean of the log-probability, where it is known."""

    name: str
    small: Floats  #: P(right) before
    large: Floats
    judged: Floats  #: P(small's answer is right), its answer seen
    right: Floats
    large_right: Floats
    tokens: Floats
    large_tokens: float
    draft_cost: float  #: of judging an answer, beyond its tokens
    folds: Folds
    traces: tuple[Floats, ...] = ()

    def fitted(self, fold: int) -> Fitted:
        rows = np.flatnonzero(self.folds != fold)
        prior, judged, right = self.small[rows], self.judged[rows], self.right[rows]
        before = spread(prior, judged, right)
        lengths, thought = self._running(rows, "tokens")
        running, thought = self._running(rows, "logprob") if self.traces else (lengths, thought)
        known = np.isfinite(thought)
        left = spread(thought[known], judged[known], right[known])
        # The large model's answers are never judged here: its spread counts only as a scale of the correlation.
        told = correlation(prior, judged, self.large[rows], self.large_right[rows], before)
        return Fitted(
            float(self.tokens[rows].mean()), before, left if math.isfinite(left) else before,
            told if math.isfinite(told) else CORRELATION, lengths, running,
        )  # fmt: skip

    def _running(self, rows: Folds, statistic: Statistic) -> tuple[Running, Floats]:
        """And what is thought of each row's answer at the knot in the middle; NaN: it had ended."""
        lengths = self.tokens[rows]
        knots = sorted({FIRST_KNOT, *(int(np.quantile(lengths, q)) for q in KNOTS)})
        knots = [t for t in knots if t >= FIRST_KNOT and (lengths > t).sum() >= 40][:MOST_KNOTS]
        columns = np.zeros((5, len(knots)))
        thought = np.full(len(rows), np.nan)
        for k, t in enumerate(knots):
            runs = np.flatnonzero(lengths > t)
            seen = np.array([self.traces[rows[i]][t - 1] for i in runs]) if statistic != "tokens" else None
            x = [np.ones(len(runs)), *([] if seen is None else [seen]), logit(self.small[rows[runs]])]
            weights = line(np.stack(x, 1), self.right[rows[runs]])
            columns[:, k] = t, weights[0], 0 if seen is None else weights[1], weights[-1], (lengths[runs] - t).mean()
            if k == len(knots) // 2:
                thought[runs] = sigmoid(np.stack(x, 1) @ weights)
        return Running(statistic, *(tuple(map(float, column)) for column in columns)), thought


def calibrated(table: Table) -> Table:
    """Each column of chances by a line on its log odds, fitted on the other folds, as heads are before they serve."""

    def column(said: Floats, right: Floats) -> Floats:
        out = said.copy()
        for fold in np.unique(table.folds):
            known, here = table.folds != fold, table.folds == fold
            shift, scale = line(np.stack([np.ones(int(known.sum())), logit(said[known])], 1), right[known])
            out[here] = sigmoid(shift + scale * logit(said[here]))
        return out

    return msgspec.structs.replace(
        table, small=column(table.small, table.right), judged=column(table.judged, table.right),
        large=column(table.large, table.large_right) if np.ptp(table.large) > 0 else table.large,
    )  # fmt: skip


def logit(chance: Floats) -> Floats:
    kept = np.clip(np.asarray(chance, np.float64), 1e-3, 1 - 1e-3)
    return np.asarray(np.log(kept / (1 - kept)))


def line(x: Floats, y: Floats, ridge: float = 1.0) -> Floats:
    """Logistic regression by Newton's steps; the first column, the constant, is not held back."""
    weights, held = np.zeros(x.shape[1]), np.full(x.shape[1], ridge)
    held[0] = 0
    for _ in range(30):
        chance = sigmoid(x @ weights)
        slope = x.T @ (y - chance) - held * weights
        curve = (x * (chance * (1 - chance))[:, None]).T @ x + np.diag(held + 1e-9)
        weights += np.linalg.solve(curve, slope)
    return np.asarray(weights)


def gsm8k(data: Path, recipe: Recipe, most: int, on_stage: OnStage) -> Table:
    """Mixtral 8x7B and GPT-4 on school maths; the verifier reads the answer's text."""
    on_stage("gsm8k: held-out fits")
    table, responses = data / "routellm_pairs.parquet", data / "gsm8k_weak_responses.parquet"
    corpus = join([read(table)])
    known = answers.answered([table], [responses], answers.GSM8K[:1])
    row = {prompt.id: i for i, prompt in enumerate(corpus.prompts)}
    rows = np.array([row[prompt.id] for prompt in known.prompts])[:most]
    chance = sigmoid(served.held_out(make("mf", corpus, recipe), corpus, by_group(corpus.prompts, FOLDS))[rows])
    weak, strong = (corpus.column(name) for name in answers.GSM8K)
    prompts, evidence = known.prompts[:most], known.evidence[:most]
    folds = by_group(prompts, FOLDS)
    judged = held_out(evidence, known.right[:most], prompts, known.models, folds)
    tokens = np.array([max(1, len(one.answer or "") // CHARS_A_TOKEN) for one in evidence], np.float64)
    return Table(
        "gsm8k", *_doubles(chance[:, weak], chance[:, strong], judged, known.right[:most], corpus.scores[rows, strong]),
        tokens, float(tokens.mean()), 0.0, folds,
    )  # fmt: skip


def evidence(data: Path, recipe: Recipe, most: int, on_stage: OnStage) -> Table:
    """Qwen2.5-Coder-0.5B on maths, puzzles and code, with the log-probability of each token; the large model is right
    in `CLOUD_QUALITY` of all, whatever the prompt."""
    on_stage("evidence: held-out fits")
    path = data / "evidence.parquet"
    corpus = join([read(path)])
    kept = {prompt.id: i for i, prompt in enumerate(corpus.prompts)}
    told = pq.read_table(path, columns=["prompt_id", "response", "output_tokens", "logprobs"]).to_pylist()
    told = sorted(told, key=lambda one: kept[one["prompt_id"]])[:most]
    prompts, right = corpus.prompts[: len(told)], corpus.scores[: len(told), 0]
    folds = by_group(prompts, FOLDS)
    small = sigmoid(
        served.held_out(make("mf", corpus, recipe), corpus, by_group(corpus.prompts, FOLDS))[: len(told), 0]
    )
    logprobs = [np.array(one["logprobs"], np.float64) for one in told]
    seen = [
        Evidence(
            prompt=prompt.text, answer=one["response"], mean_logprob=float(lp.mean()), least_logprob=float(lp.min()),
            quality=float(q), output_tokens=len(lp),
        )
        for prompt, one, lp, q in zip(prompts, told, logprobs, small, strict=True)
    ]  # fmt: skip
    judged = held_out(seen, right, prompts, ("qwen2.5-coder-0.5b",), folds)
    tokens = np.array([len(one) for one in logprobs], np.float64)
    constant = np.full(len(told), CLOUD_QUALITY)
    return Table(
        "evidence", *_doubles(small, constant, judged, right, constant), tokens, float(tokens.mean()), 0.0, folds,
        tuple(moving(one) for one in logprobs),
    )  # fmt: skip


def mmlu_pro(data: Path, recipe: Recipe, most: int, on_stage: OnStage) -> Table:
    """Llama-3.1 8B and 70B; the verifier reads the answer's length and whether Phi-3-mini's agrees (as
    bench/answers.py derives it), which is paid for."""
    on_stage("mmlu_pro: held-out fits")
    table = read(data / "mmlu_pro.parquet")
    corpus = join([_some(table, (*answers.MMLU_PRO, answers.SECOND))])
    weak, strong, second = (corpus.column(name) for name in (*answers.MMLU_PRO, answers.SECOND))
    rows = np.flatnonzero(np.isfinite(corpus.scores[:, [weak, strong, second]]).all(1))[:most]
    prompts = [corpus.prompts[i] for i in rows]
    chance = sigmoid(served.held_out(make("mf", corpus, recipe), corpus, by_group(corpus.prompts, FOLDS))[rows])
    right = corpus.scores[rows, weak]
    agree = answers.agreement([p.id for p in prompts], right, corpus.scores[rows, second], answers.SAME_MISTAKE)
    chars = answers._chars(table)
    lengths = [np.nan_to_num(chars[name][rows], nan=float(np.nanmean(chars[name]))) for name in chars]
    seen = [
        Evidence(prompt=p.text, output_tokens=int(n) // CHARS_A_TOKEN, agreement=float(a), quality=float(q))
        for p, n, a, q in zip(prompts, lengths[0], agree, chance[:, weak], strict=True)
    ]
    folds = by_group(prompts, FOLDS)
    judged = held_out(seen, right, prompts, answers.MMLU_PRO[:1], folds)
    tokens = np.maximum(1.0, lengths[0] / CHARS_A_TOKEN)
    judging = answers.second_cost(chars) * RATIO * float(lengths[1].mean()) / CHARS_A_TOKEN
    return Table(
        "mmlu_pro", *_doubles(chance[:, weak], chance[:, strong], judged, right, corpus.scores[rows, strong]), tokens,
        float(lengths[1].mean()) / CHARS_A_TOKEN, judging, folds,
    )  # fmt: skip


TABLES = {"gsm8k": gsm8k, "evidence": evidence, "mmlu_pro": mmlu_pro}


def recipe_of(name: str, quick: bool) -> Recipe:
    recipe = SIZES["small" if name == "evidence" else "default"]
    return msgspec.structs.replace(recipe, steps=2, static=0, word_rows=4096) if quick else recipe


def moving(logprobs: Floats) -> Floats:
    """The watch's recent mean: the latest token weighs 1/16, the first ones their plain mean."""
    out, mean = np.empty(len(logprobs)), 0.0
    for i, value in enumerate(logprobs):
        mean += (value - mean) / min(i + 1, 16)
        out[i] = mean
    return out


def _doubles(*columns: npt.ArrayLike) -> list[Floats]:
    return [np.asarray(column, np.float64) for column in columns]


def _some(table: Outcomes, models: Sequence[str]) -> Outcomes:
    columns = [table.models.index(name) for name in models]
    measured = ("answers", "cost_usd", "output_tokens", "output_chars")
    measures = {name: getattr(table, name) for name in measured if getattr(table, name) is not None}
    return msgspec.structs.replace(
        table, models=tuple(models), scores=table.scores[:, columns],
        **{name: measure[:, columns] for name, measure in measures.items()},
    )  # fmt: skip
