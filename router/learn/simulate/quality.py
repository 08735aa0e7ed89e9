"""How good each model's answers are: drawn, or of a labelled table."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn.data import outcomes
from router.learn.data.outcomes import Outcomes
from router.learn.simulate.traffic import MOST_TOKENS, Floats, Ints

HARDNESS = 1.5  #: standard deviation of how hard a request is, in logits: the same for all models
APART = 1.0  #: and of what it is to each of them alone


class Qualities(msgspec.Struct, frozen=True, kw_only=True):
    """Of requests, [n, models]."""

    score: Floats  #: predicted
    quality: Floats | None  #: None: as predicted
    output: Ints | None = None  #: tokens of the answers, where the table has them


def drawn(means: Mapping[str, float], names: Sequence[str], size: int, rng: np.random.Generator) -> Qualities:
    """P(a good answer) of each request and model, its mean over requests that of `means`; what hard requests are hard
    for is all models. Answers are good or not, by that probability, so predictions are calibrated."""
    for name in means:
        if name not in names:
            raise ConfigError(f"--quality: expected some of {', '.join(names)}, got {name!r}")
    missing = [name for name in names if name not in means]
    if missing:
        raise ConfigError(f"--quality: expected a mean of each member; {missing[0]!r} is missing")
    if bad := [name for name, mean in means.items() if not 0 < mean < 1]:
        raise ConfigError(f"--quality: {bad[0]}: expected a mean above 0 and below 1, got {means[bad[0]]:g}")
    hard = rng.normal(0, HARDNESS, size)
    columns = [_column(means[name], hard + rng.normal(0, APART, size)) for name in names]
    score = np.stack(columns, axis=1)
    return Qualities(score=score, quality=(rng.random((size, len(names))) < score).astype(np.float64))


def _column(mean: float, noise: Floats) -> Floats:
    """Sigmoid of `noise` and a shift by which its mean is as wanted."""
    low, high = -30.0, 30.0
    for _ in range(60):
        shift = (low + high) / 2
        if float(np.mean(1 / (1 + np.exp(-(shift + noise))))) < mean:
            low = shift
        else:
            high = shift
    return np.asarray(1 / (1 + np.exp(-(low + noise))))


Score = Callable[[str], Sequence[float]]


def of_table(
    path: Path, names: Sequence[str], size: int, rng: np.random.Generator, score: Score | None = None
) -> Qualities:
    """Rows of an outcomes table that have all of the models, drawn with replacement. `score`: predicts each model's
    quality of a prompt, in the order of `names`; None: the table's own scores are taken as the predictions."""
    table = outcomes.read(path)
    known = {outcomes.model_name(name): i for i, name in enumerate(table.models)}
    columns = []
    for name in names:
        found = table.models.index(name) if name in table.models else known.get(outcomes.model_name(name))
        if found is None:
            raise ConfigError(f"{path}: expected scores of {name!r}, one of the pool; it has {', '.join(table.models)}")
        columns.append(found)
    labels = np.asarray(table.scores[:, columns], np.float64)
    rows = np.flatnonzero(~np.isnan(labels).any(axis=1))
    if not len(rows):
        raise ConfigError(f"{path}: expected prompts with a score of each of {', '.join(names)}, got none")
    picked = rng.integers(0, len(rows), size)
    taken = rows[picked]
    labels = labels[taken]
    output = _output(table, columns, taken)
    if score is None:
        return Qualities(score=labels, quality=None, output=output)
    asked = np.unique(taken)
    predicted = np.array([score(table.prompts[i].text) for i in asked], np.float64)
    return Qualities(score=predicted[np.searchsorted(asked, taken)], quality=labels, output=output)


def _output(table: Outcomes, columns: Sequence[int], taken: npt.NDArray[np.int64]) -> Ints | None:
    if table.output_tokens is None:
        return None
    tokens = table.output_tokens[np.ix_(taken, np.array(columns))]
    if np.isnan(tokens).any():
        return None
    return np.asarray(np.clip(np.rint(tokens), 1, MOST_TOKENS), np.int32)
