"""What changing one's mind is worth: area of quality over cost on held-out answers, of each way and of deciding before
the answer only. Two models: one whose answers are judged, and a better one.

Each way is played at many prices, each prompt by what was known of it at that moment. A hand-over is charged as if the
other model wrote its whole answer, after it has read what there is; in quality it counts as that answer.
"""

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.verifier.spread import spread
from router.verify.judged import Gain

PREFILL = 0.05  #: cost of a token that is read, in tokens that are written
PRICES = 10.0 ** np.linspace(-3, 1.5, 46)  #: quality points for what an answer of the better model costs
POINTS = 101  #: of the area
DRAWS = 200

Floats = npt.NDArray[np.float64]


class Pair(msgspec.Struct, frozen=True, kw_only=True):
    """[prompts] each. Costs in any one unit, of whole answers; qualities 0..1, said by who has not seen the prompt."""

    small_right: Floats
    large_right: Floats
    small_prior: Floats
    large_prior: Floats
    small_cost: Floats
    large_cost: Floats
    small_tokens: Floats
    prompt_tokens: Floats
    judged: Floats  #: of the small model's whole answer
    knots: tuple[float, ...] = ()  #: tokens
    running: Floats  #: [prompts, knots] of the answer that still runs; NaN: it has ended
    left: tuple[float, ...] = ()
    first: Floats | None = None  #: by the first token's logits


class Played(msgspec.Struct, frozen=True):
    """[prices, prompts] each."""

    quality: Floats
    cost: Floats


def gains(pair: Pair, seed: int = 0) -> dict[str, Gain]:
    """Of each way that can be played, by 95 % paired bootstrap intervals over prompts."""
    ways = {"cascade": cascade(pair)}
    if pair.knots:
        ways["handoff"] = handoff(pair)
    if pair.first is not None:
        ways["first"] = first(pair)
    plain = before(pair)
    rng = np.random.default_rng(seed)
    n = len(pair.judged)
    draws = np.stack([np.bincount(rng.integers(0, n, n), minlength=n) / n for _ in range(DRAWS)])
    weights = np.concatenate([np.full((1, n), 1 / n), draws])
    base = areas(pair, plain, weights)
    out = {}
    for way, played in ways.items():
        more = areas(pair, played, weights) - base
        low, high = np.quantile(more[1:], (0.025, 0.975))
        out[way] = Gain(mean=float(more[0]), low=float(low), high=float(high))
    return out


def before(pair: Pair) -> Played:
    price = _prices(pair)
    large = pair.large_prior - price * pair.large_cost.mean() > pair.small_prior - price * pair.small_cost.mean()
    return Played(
        np.where(large, pair.large_right, pair.small_right), np.where(large, pair.large_cost, pair.small_cost)
    )


def cascade(pair: Pair) -> Played:
    """Where a draft is worth its cost, it is made, and given up where the other model is worth its own by then."""
    price = _prices(pair)
    drafts = _drafts(pair, price, pair.judged)
    other = pair.large_prior - price * pair.large_cost.mean() > pair.judged
    quality = np.where(drafts & ~other, pair.small_right, pair.large_right)
    cost = np.where(drafts, pair.small_cost + np.where(other, pair.large_cost, 0), pair.large_cost)
    return Played(quality, cost)


def handoff(pair: Pair) -> Played:
    """The small model begins where that is worth more, and at the first knot where the other is worth more it ends."""
    price = _prices(pair)
    begins = _drafts(pair, price, _last(pair))
    given = np.zeros(begins.shape, bool)
    quality = np.where(begins, pair.small_right, pair.large_right)
    cost = np.where(begins, pair.small_cost, pair.large_cost)
    token = pair.small_cost / np.maximum(1, pair.small_tokens)
    read = PREFILL * pair.large_cost.mean() / max(1.0, float(pair.small_tokens.mean()))
    for k, knot in enumerate(pair.knots):
        on = pair.running[:, k] - price * pair.left[k] * token
        change = pair.large_prior - price * (pair.large_cost.mean() + read * knot)
        now = begins & ~given & np.isfinite(pair.running[:, k]) & (change > np.nan_to_num(on, nan=np.inf))
        quality = np.where(now, pair.large_right, quality)
        cost = np.where(now, token * knot + pair.large_cost + read * knot, cost)
        given |= now
    return Played(quality, cost)


def first(pair: Pair) -> Played:
    """Decided again at the small model's first token, where what is learnt there is worth its prefill."""
    if pair.first is None:
        raise ValueError("first: expected what the first token's logits say, got none")
    price = _prices(pair)
    token = pair.small_cost.mean() / max(1.0, float(pair.small_tokens.mean()))
    look = token * (1 + PREFILL * pair.prompt_tokens)
    large = pair.large_prior - price * pair.large_cost.mean()
    small = pair.small_prior - price * pair.small_cost.mean()
    looks = expected_most(small, large, _spread(pair, pair.first)) - price * look > np.maximum(small, large)
    seen = np.where(looks, pair.first, pair.small_prior) - price * pair.small_cost.mean()
    other = large > seen
    cost = np.where(other, pair.large_cost + np.where(looks, look, 0), pair.small_cost)
    return Played(np.where(other, pair.large_right, pair.small_right), cost)


def areas(pair: Pair, played: Played, weights: Floats) -> Floats:
    """[draws]: mean quality over the costs between the models' own, of the best mix not above each cost. `weights`
    [draws, prompts], each row's sum 1."""
    ends = np.stack([pair.small_cost, pair.large_cost]), np.stack([pair.small_right, pair.large_right])
    cost, quality = (
        weights @ np.concatenate([ends[0], played.cost]).T,
        weights @ np.concatenate([ends[1], played.quality]).T,
    )
    out = np.empty(len(weights))
    for i, (costs, qualities) in enumerate(zip(cost, quality, strict=True)):
        order = np.argsort(costs, kind="stable")
        most = np.maximum.accumulate(qualities[order])
        out[i] = np.interp(np.linspace(costs[0], costs[1], POINTS), costs[order], most).mean()
    return out


def expected_most(a: Floats, b: Floats, deviation: float) -> Floats:
    """E[max(x, b)] of a normal x with mean `a`."""
    if deviation <= 0:
        return np.maximum(a, b)
    from scipy.special import ndtr

    z = (a - b) / deviation
    return np.asarray(b + (a - b) * ndtr(z) + deviation * np.exp(-z * z / 2) / np.sqrt(2 * np.pi))


def _drafts(pair: Pair, price: Floats, posterior: Floats) -> npt.NDArray[np.bool_]:
    """[prices, prompts]: whether the small model goes first."""
    large = pair.large_prior - price * pair.large_cost.mean()
    deviation = _spread(pair, posterior)
    worth = expected_most(pair.small_prior + 0 * price, large, deviation) - price * pair.small_cost.mean()
    return np.asarray(np.maximum(worth, pair.small_prior - price * pair.small_cost.mean()) >= large)


def _spread(pair: Pair, posterior: Floats) -> float:
    found = spread(pair.small_prior, posterior, pair.small_right)
    return found if np.isfinite(found) else 0.0


def _last(pair: Pair) -> Floats:
    """What was known of each answer at the last knot that it got to; the prior before the first."""
    out = pair.small_prior.copy()
    for k in range(len(pair.knots)):
        known = np.isfinite(pair.running[:, k])
        out[known] = pair.running[known, k]
    return out


def _prices(pair: Pair) -> Floats:
    """[prices, 1], quality points a unit of cost."""
    return np.asarray(PRICES[:, None] / pair.large_cost.mean())
