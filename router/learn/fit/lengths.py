"""Learns how long a model's answers are: a ridge regression of the logarithm of their tokens on the features of `mf`,
all models of a table at once, tied as its quality is. What it says is measured on held-out questions, and kept of those
models alone of whose answers it says more than their mean does.
"""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.heads.lengths import BIAS, LARGEST_LOG, LARGEST_SD, RANGE, SD, VECTORS
from router.learn.data.corpus import Corpus, strengths
from router.learn.data.folds import training_rows
from router.learn.data.outcomes import CHARS, Outcomes
from router.learn.fit.export import Head, head
from router.learn.fit.logistic import Weights, imitate, ties
from router.learn.fit.mf import Features, Part
from router.learn.fit.recipe import Recipe

FEWEST = 20  #: answers of a model, below which nothing is learnt of them
SURE = 2.0  #: standard errors by which the squared error must be below that of the mean
LEAST_SD = 0.05
WIDTH = 16  #: columns of the folded table come in such bundles
FEW_COLUMNS = 4  #: free ones, below which there is another bundle

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Rows = npt.NDArray[np.bool_]
OnStep = Callable[[], None]


class HeldLength(msgspec.Struct, frozen=True, kw_only=True):
    """How well one model's lengths are told, of questions that the fit did not see."""

    model: str
    answers: int
    error: float  #: median of `|predicted - real| / real`
    error_mean: float  #: the same of the mean over the other folds, in logarithms
    correlation: float  #: of the logarithms; NaN where either is constant
    log_sd: float  #: root mean square error of the logarithm
    log_sd_mean: float
    level: float  #: sum of the means that are predicted to the sum that is real
    kept: bool


def logs_of(tables: Sequence[Outcomes], corpus: Corpus) -> Floats:
    """[prompts, columns]: logarithms of the answers' tokens, from characters where a table has these alone; NaN where
    unknown, and of empty answers."""
    out = np.full(corpus.scores.shape, np.nan)
    for i, column in enumerate(corpus.columns):
        if column.table < len(tables):
            table = tables[column.table]
            out[corpus.table == column.table, i] = _tokens(table)[:, table.models.index(column.model)]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(out >= 1, np.log(out), np.nan).astype(np.float32)


def _tokens(table: Outcomes) -> Doubles:
    """Characters by the mean ratio of the table's cells that tell both, else by `CHARS` a token."""
    unknown = np.full(table.scores.shape, np.nan)
    tokens, chars = (unknown if one is None else one for one in (table.output_tokens, table.output_chars))
    both = np.isfinite(tokens) & np.isfinite(chars) & (tokens > 0)
    a_token = chars[both].sum() / tokens[both].sum() if both.any() else 0.0
    return np.where(np.isfinite(tokens), tokens, chars / (a_token or CHARS))


def with_lengths(
    made: Artefact, corpus: Corpus, logs: Floats, features: Features, folds: npt.NDArray[np.int64], recipe: Recipe,
    on_step: OnStep = lambda: None,
) -> tuple[Artefact, tuple[HeldLength, ...]]:  # fmt: skip
    """The artefact of an `mf` router with what tells its models' lengths, and the held-out figures. `logs`: of
    `logs_of`. As it was where there is nothing to learn, or to gain."""
    columns = _speakers(corpus, logs)
    if not len(columns):
        return made, ()
    used, directions = _room(made, len(columns))
    told, means = _held_out(corpus, logs, features, folds, recipe, columns, directions, on_step)
    held = tuple(_measured(corpus, logs, told, means, column) for column in columns)
    kept = [(column, one) for column, one in zip(columns, held, strict=True) if one.kept]
    if not kept:
        return made, held
    chosen = np.array([column for column, _ in kept])
    everything = np.ones(len(corpus.prompts), bool)
    fitted = head(features, _fit(corpus, logs, features, everything, recipe, chosen, on_step), chosen, directions)
    places = {model.name: i for i, model in enumerate(made.meta.models)}
    at = np.array([places[corpus.columns[column].model] for column in chosen])
    sd = np.array([max(one.log_sd, LEAST_SD) for _, one in kept])
    ends = np.stack([np.nanmin(logs[:, chosen], axis=0), np.nanmax(logs[:, chosen], axis=0)], axis=1)
    return _joined(made, fitted, used, at, np.minimum(sd, LARGEST_SD), ends), held


def _room(made: Artefact, models: int) -> tuple[int, int]:
    """How many columns of the table the quality uses, and how many the lengths may: in the same bundle where there is
    room, else in another one."""
    used = int(np.flatnonzero(made.arrays["table"].any(axis=0)).max(initial=-1)) + 1
    free = -used % WIDTH
    return used, min(models, free if free >= min(FEW_COLUMNS, models) else free + WIDTH)


def _speakers(corpus: Corpus, logs: Floats) -> npt.NDArray[np.int64]:
    """Of each model the column that tells most lengths, if it tells enough."""
    told = np.isfinite(logs).sum(0)
    best = [
        max((i for i, column in enumerate(corpus.columns) if column.model == model), key=lambda i: int(told[i]))
        for model in corpus.models
    ]
    return np.array([i for i in best if told[i] >= FEWEST], np.int64)


def _fit(
    corpus: Corpus, logs: Floats, features: Features, rows: Rows, recipe: Recipe, columns: npt.NDArray[np.int64],
    on_step: OnStep,
) -> tuple[Part, ...]:  # fmt: skip
    """A part for each table of the columns, as `mf.train` makes them."""
    tables = np.array([corpus.columns[i].table for i in columns])
    parts = []
    for table in np.unique(tables):
        own = columns[tables == table]
        used_rows = rows & (corpus.table == table) & np.isfinite(logs[:, own]).any(axis=1)
        if not used_rows.any():
            continue
        wanted = logs[used_rows][:, own]
        known = np.isfinite(wanted)
        mean = np.nan_to_num(np.where(known, wanted, 0).sum(0) / np.maximum(known.sum(0), 1)).astype(np.float32)
        rows_in_use = features.design.rows_in_use(used_rows, recipe.min_prompts)
        x = features.design.matrix(rows_in_use).rows(used_rows)
        prior = ties(strengths(corpus, rows)[own], recipe.tie)
        off = np.where(known, wanted - mean, 0).astype(np.float32)
        found = imitate(x, off, prior, recipe.length_ridge, recipe.steps, on_step, known.astype(np.float32))
        parts.append(Part(own, rows_in_use, Weights(found.hidden, found.ties, found.bias + mean)))
    return tuple(parts)


def _held_out(
    corpus: Corpus, logs: Floats, features: Features, folds: npt.NDArray[np.int64], recipe: Recipe,
    columns: npt.NDArray[np.int64], directions: int, on_step: OnStep,
) -> tuple[Floats, Floats]:  # fmt: skip
    """[prompts, columns], cut as a checkpoint is: what the lines of the other folds say, and what their means do."""
    told, means = np.full(logs.shape, np.nan, np.float32), np.full(logs.shape, np.nan, np.float32)
    for fold in range(folds.max() + 1):
        rows, test = training_rows(corpus.prompts, folds == fold), np.flatnonzero(folds == fold)
        parts = _fit(corpus, logs, features, rows, recipe, columns, on_step)
        if not parts:
            continue
        own = np.concatenate([part.columns for part in parts])
        cut = head(features, parts, own, directions)
        told[np.ix_(test, own)] = features.design.bags[test] @ cut.table @ cut.vectors.T + cut.bias
        known = np.isfinite(logs[rows][:, own])
        total = np.where(known, logs[rows][:, own], 0).sum(0)
        means[np.ix_(test, own)] = np.where(known.any(0), total / np.maximum(known.sum(0), 1), np.nan)
    return told, means


def _measured(corpus: Corpus, logs: Floats, told: Floats, means: Floats, column: int) -> HeldLength:
    real, said, mean = (np.asarray(one[:, column], np.float64) for one in (logs, told, means))
    lowest, highest = np.nanmin(real), np.nanmax(real)
    known = np.isfinite(real) & np.isfinite(said) & np.isfinite(mean)
    real, said, mean = real[known], np.clip(said[known], lowest, highest), mean[known]
    if len(real) < FEWEST:
        return HeldLength(
            model=corpus.columns[column].model, answers=len(real), error=np.nan, error_mean=np.nan, correlation=np.nan,
            log_sd=np.nan, log_sd_mean=np.nan, level=np.nan, kept=False,
        )  # fmt: skip
    gain = (mean - real) ** 2 - (said - real) ** 2
    log_sd = float(np.sqrt(((said - real) ** 2).mean()))
    varies = real.std() > 0 and said.std() > 0
    return HeldLength(
        model=corpus.columns[column].model,
        answers=len(real),
        error=float(np.median(np.abs(np.expm1(said - real)))),
        error_mean=float(np.median(np.abs(np.expm1(mean - real)))),
        correlation=float(np.corrcoef(said, real)[0, 1]) if varies else np.nan,
        log_sd=log_sd,
        log_sd_mean=float(np.sqrt(((mean - real) ** 2).mean())),
        level=float(np.exp(said + log_sd**2 / 2).sum() / np.exp(real).sum()),
        kept=bool(gain.mean() > SURE * gain.std() / np.sqrt(len(gain))),
    )


def _joined(made: Artefact, fitted: Head, used: int, at: npt.NDArray[np.int64], sd: Doubles, ends: Floats) -> Artefact:
    """The lengths' columns behind those that the quality uses. That stays, to the bit: its vectors are 0 there."""
    table, vectors = made.arrays["table"], made.arrays["vectors"]
    directions = fitted.table.shape[1]
    width = -(-(used + directions) // WIDTH) * WIDTH
    models = len(made.meta.models)
    wide = np.zeros((len(table), max(width, table.shape[1])), np.float16)
    wide[:, :used], wide[:, used : used + directions] = table[:, :used], fitted.table
    arrays = dict(made.arrays)
    arrays["table"] = wide
    arrays["vectors"] = np.zeros((models, wide.shape[1]), np.float32)
    arrays["vectors"][:, :used] = vectors[:, :used]
    arrays[VECTORS] = np.zeros((models, wide.shape[1]), np.float32)
    arrays[VECTORS][at, used : used + directions] = fitted.vectors
    for name, values in ((BIAS, fitted.bias), (SD, sd), (RANGE, np.clip(ends, 0, LARGEST_LOG))):
        arrays[name] = np.zeros((models, *values.shape[1:]), np.float32)
        arrays[name][at] = values
    return msgspec.structs.replace(made, arrays=arrays)
