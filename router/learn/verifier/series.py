"""An answer's figures from its tokens' statistics, as the watch in the engine has them (csrc/watch.hpp)."""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.watched import Figures

RECENT = 1 / 16  #: weight of the latest token in a moving mean, which is a plain mean until it has as many tokens

Floats = npt.NDArray[np.float64]


class Series(msgspec.Struct, frozen=True, kw_only=True):
    """Of an answer's tokens, in order, all of one length: log-probability (<= 0), and where known entropy (nats) and
    margin (log-probability of the likeliest token less that of the second). Log-probabilities are of the likeliest
    token; those of the chosen token stand for them, and are the same where answers are greedy."""

    logprobs: tuple[float, ...]
    entropies: tuple[float, ...] = ()
    margins: tuple[float, ...] = ()


def figures(series: Series, tokens: int | None = None) -> Figures:
    """After the first `tokens` of them (all, where None). What is not known is NaN."""
    logprobs, entropies, margins = (
        list(values[:tokens]) for values in (series.logprobs, series.entropies, series.margins)
    )
    if not logprobs:
        return Figures()
    return Figures(
        tokens=len(logprobs),
        mean_logprob=_mean(logprobs), least_logprob=min(logprobs), recent_logprob=_last(logprobs),
        mean_entropy=_mean(entropies), recent_entropy=_last(entropies),
        mean_margin=_mean(margins), least_margin=min(margins, default=math.nan), recent_margin=_last(margins),
        first_logprob=logprobs[0], first_entropy=entropies[0] if entropies else math.nan,
    )  # fmt: skip


def moving_means(values: Sequence[float]) -> Floats:
    """[tokens]: after each token."""
    out = np.empty(len(values))
    mean = 0.0
    for i, value in enumerate(values):
        mean += (value - mean) * max(RECENT, 1 / (i + 1))
        out[i] = mean
    return out


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else math.nan


def _last(values: Sequence[float]) -> float:
    return float(moving_means(values)[-1]) if values else math.nan
