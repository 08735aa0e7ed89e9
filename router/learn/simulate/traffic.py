"""What is asked of a simulated pool: columns of requests in order of time. Made up, or of a trace or a journal."""

import math
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn.bench import arrivals
from router.learn.bench.arrivals import Arrivals
from router.policy import Settings

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int32]
MOST = arrivals.MOST
MOST_TOKENS = 1 << 24


class Traffic(msgspec.Struct, frozen=True, kw_only=True):
    """Requests [n] in order of time, the first at 0 or later. `quality` and `output` [n, models] are in the order of
    `names`."""

    about: str
    names: tuple[str, ...]
    at_s: Floats
    prompt: Ints  #: tokens
    cached: Ints  #: of these, in the prefix cache
    estimate: Ints | None = None  #: tokens of the prompt as decisions take it; None: as many as it has
    output: Ints  #: tokens of each model's answer
    score: Floats  #: how good each model's answer is predicted to be
    quality: Floats | None = None  #: how good it is; None: as predicted
    lengths: tuple[Floats, Floats] | None = None  #: tokens that decisions expect of it, and the logarithm's deviation
    best: Floats | None = None  #: [n]: of the best member, where `names` may lack it
    max_tokens: Ints | None = None  #: that the client asked for; below 0: it did not
    rule: Ints | None = None  #: index in `rules`, or -1: as the pool decides `auto`
    rules: tuple[Settings, ...] = ()
    moved: int = 0  #: that stood behind a later one in the file, and were put in order
    left_out: dict[str, int] = {}  #: of the file, by reason

    @property
    def seconds(self) -> float:
        return float(self.at_s[-1] - self.at_s[0]) if len(self.at_s) else 0.0

    @property
    def rate(self) -> float:
        """Requests a second, on average."""
        return len(self.at_s) / self.seconds if self.seconds > 0 else 0.0

    @property
    def true_quality(self) -> Floats:
        return self.score if self.quality is None else self.quality

    @property
    def best_quality(self) -> Floats:
        """[n]: that of the one member which is best on average."""
        if self.best is not None:
            return self.best
        true = self.true_quality
        return np.asarray(true[:, int(true.mean(axis=0).argmax())])


def moments(how: Arrivals, rate: float, seconds: float, seed: int, ramp_to: float | None = None) -> Floats:
    """In [0, seconds), ascending. `ramp_to`: the rate grows, or falls, evenly to this one."""
    for name, value in (("--rate", rate), ("--seconds", seconds), ("--ramp", rate if ramp_to is None else ramp_to)):
        if not 0 < value < 1e9:
            raise ConfigError(f"{name}: expected a number above 0, got {value:g}")
    if ramp_to is None:
        return arrivals.planned(how, rate, seconds, seed)
    work = seconds * (rate + ramp_to) / 2
    flat = arrivals.planned(how, 1.0, work, seed)  # of mean 1, then stretched: the inverse of the integral of the rate
    slope = (ramp_to - rate) / seconds
    return np.asarray(2 * flat / (rate + np.sqrt(rate * rate + 2 * slope * flat)))


def lengths(mean: float, spread: float, size: int, rng: np.random.Generator) -> Ints:
    """Lognormal numbers of tokens of this mean, before they are rounded to 1 or more; `spread`: standard deviation over
    the mean."""
    if not 1 <= mean <= MOST_TOKENS or not 0 <= spread <= 100:
        raise ConfigError(f"--tokens: expected 1 to {MOST_TOKENS} tokens and a spread from 0 to 100, got {mean:g},"
                          f" {spread:g}")  # fmt: skip
    sigma = math.sqrt(math.log1p(spread * spread))
    drawn = mean * np.exp(rng.normal(-sigma * sigma / 2, sigma, size)) if spread else np.full(size, mean)
    return np.clip(np.rint(drawn), 1, MOST_TOKENS).astype(np.int32)


def of_trace(path: Path, speed: float) -> tuple[Floats, Ints, Ints, int]:
    """Moments, prompt and answer tokens (0: the trace does not say), rows that were put in order."""
    found = arrivals.trace(path, speed)
    at_s = np.array([row.at_s for row in found.arrivals])
    return at_s, _ints([row.input_tokens for row in found.arrivals]), _ints(
        [row.output_tokens for row in found.arrivals]
    ), found.moved  # fmt: skip


def _ints(values: Sequence[int]) -> Ints:
    return np.array(values, np.int32)


def made(
    about: str, names: Sequence[str], at_s: Floats, prompt: Ints, output: Ints, score: Floats,
    quality: Floats | None = None, *, cached_share: float = 0.0, moved: int = 0,
) -> Traffic:  # fmt: skip
    """`output`: [n], of any model, or [n, models]. Raises ConfigError where there is nothing, or too much of it."""
    size = len(at_s)
    if not 0 < size <= MOST:
        raise ConfigError(f"expected 1 to {MOST} requests, got {size}: more seconds or a higher rate, or less of it")
    if not 0 <= cached_share <= 1:
        raise ConfigError(f"--prefix-hit: expected a share from 0 to 1, got {cached_share:g}")
    wide = output if output.ndim == 2 else np.repeat(output[:, None], len(names), axis=1)
    cached = np.minimum(prompt - 1, np.rint(prompt * cached_share)).astype(np.int32)
    return Traffic(
        about=about, names=tuple(names), at_s=np.ascontiguousarray(at_s, np.float64), prompt=prompt, cached=cached,
        output=np.ascontiguousarray(wide, np.int32), score=np.ascontiguousarray(score, np.float64),
        quality=None if quality is None else np.ascontiguousarray(quality, np.float64), moved=moved,
    )  # fmt: skip
