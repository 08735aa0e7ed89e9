"""csrc/plan.hpp again, slowly: every order of two models by a fine grid, nothing left out; values of sets and of an
optimal plan by drawing. What the native plan is compared with."""

import itertools
import math
from collections.abc import Sequence
from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from router.policy.plan import Option

Floats = npt.NDArray[np.float64]
NORMAL = NormalDist()


def spread_of(option: Option) -> float:
    return min(option.spread, math.sqrt(max(0.0, option.quality * (1 - option.quality))))


def above(d: float, s: float) -> float:
    """E[max(0, d + s * Z)]."""
    return max(d, 0.0) if s <= 0 else d * NORMAL.cdf(d / s) + s * NORMAL.pdf(d / s)


def courses(options: Sequence[Option], price: float, rho: float) -> dict[tuple[int, ...], float]:
    """Of one and of two models, by their order; options with `prior` are not known here."""
    left = [i for i, option in enumerate(options) if not option.run and not option.excluded]
    found = {(i,): _single(options, i, price) for i in left}
    for i, j in itertools.permutations(left, 2):
        if spread_of(options[i]) > 0:
            found[i, j] = found[i,] + _following(options, i, j, price, rho)
    return found


def fallback(options: Sequence[Option]) -> float | None:
    return max((option.quality for option in options if option.run), default=None)


def _single(options: Sequence[Option], i: int, price: float) -> float:
    one, best = options[i], fallback(options)
    quality = one.quality if best is None else best + above(one.quality - best, spread_of(one))
    return quality - price * one.cost_usd + one.favour


def _following(options: Sequence[Option], i: int, j: int, price: float, rho: float, steps: int = 3000) -> float:
    first, second, best = options[i], options[j], fallback(options)
    own = spread_of(second) * math.sqrt(1 - rho * rho)
    total = 0.0
    for k in range(steps):
        z = -7 + 14 * (k + 0.5) / steps
        seen = first.quality + spread_of(first) * z
        kept = seen if best is None else max(best, seen)
        total += NORMAL.pdf(z) * max(
            0.0, above(second.quality + rho * spread_of(second) * z - kept, own) - price * second.cost_usd
        )
    return total * 14 / steps


def draws(options: Sequence[Option], rho: float, count: int, seed: int = 0) -> Floats:
    """[count, options]: what will be thought of each answer once it is seen."""
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal((count, 1)), rng.standard_normal((count, len(options)))
    mean = np.array([option.quality for option in options])
    deviation = np.array([0.0 if option.run else spread_of(option) for option in options])
    return np.asarray(mean + deviation * (math.sqrt(rho) * common + math.sqrt(1 - rho) * own))


def best_of_independent(options: Sequence[Option], price: float, seen: Floats) -> float:
    """The most that any plan of any number of models is worth where they are independent (Weitzman, "Optimal search for
    the best alternative", Econometrica 47, 1979): E[max of min(M_i, z_i)], E[max(0, M_i - z_i)] = price * c_i."""
    capped = []
    for i, option in enumerate(options):
        cost, spread = price * option.cost_usd, spread_of(option)
        low, high = option.quality - cost - 20 * spread - 1, option.quality + 20 * spread
        for _ in range(200):
            middle = (low + high) / 2
            low, high = (middle, high) if above(option.quality - middle, spread) > cost else (low, middle)
        capped.append(np.minimum(seen[:, i], low))
    return float(np.max(capped, axis=0).mean())
