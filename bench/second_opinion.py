"""When asking a cheap second model before the strong one is worth its cost. Works on numbers only.

Gains are what the strong model is expected to add to the weak one's score. At a price for one strong call,

    strong at once   gain - price
    ask, then see    E[max(0, gain told - price)] - cost * price
    keep the answer  0

and each prompt takes the best of the three: the value of information (Howard, 1966).
"""

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.evaluate.metrics import Curve

Floats = npt.NDArray[np.floating]
PRICES = 400
GRID = 1000  #: steps of a curve over the cost


class Gains(msgspec.Struct, frozen=True):
    """[prompts] each: the expected gain before the second answer, if the two will agree, if they will differ, and as it
    is expected once the second answer is there."""

    alone: Floats
    agree: Floats
    differ: Floats
    told: Floats

    @property
    def chance(self) -> Floats:
        """P(agree) that the three expectations imply: `alone = p * agree + (1 - p) * differ`."""
        apart = self.agree - self.differ
        sure = np.abs(apart) > 1e-9
        return np.clip(np.where(sure, (self.alone - self.differ) / np.where(sure, apart, 1), 0.5), 0, 1)


class Choices(msgspec.Struct, frozen=True):
    """[prices, prompts]: who is asked at which price, dearest first. `cost`: of a second answer, in strong calls."""

    strong: npt.NDArray[np.bool_]
    second: npt.NDArray[np.bool_]
    cost: float

    def curve(self, weak: Floats, strong: Floats, counts: Floats | None = None) -> Curve:
        """PGR over the cost, in shares of strong calls. `counts` [prompts]: a bootstrap's."""
        times = np.ones(len(weak)) if counts is None else counts
        gain = (np.asarray(strong, np.float64) - weak) * times
        spent = (self.strong @ times + self.cost * (self.second @ times)) / times.sum()
        reached = self.strong @ gain / gain.sum()
        order = np.argsort(spent, kind="stable")
        return Curve(np.interp(np.linspace(0, 1, GRID + 1), spent[order], reached[order]))

    def asked_at(self, share: float) -> float:
        """The share of prompts that the second model sees where about `share` of a strong call a prompt is spent."""
        spent = self.strong.mean(1) + self.cost * self.second.mean(1)
        return float(self.second[np.argmin(np.abs(spent - share))].mean())


def choose(gains: Gains, cost: float, prices: int = PRICES) -> Choices:
    """At every price from one that nobody pays down to none at all."""
    seen = np.concatenate([gains.alone, gains.told])
    chance = gains.chance
    strong, second = [np.zeros(len(chance), np.bool_)], [np.zeros(len(chance), np.bool_)]
    for price in np.quantile(seen, np.linspace(1, 0, prices)):
        hoped = chance * np.maximum(0, gains.agree - price) + (1 - chance) * np.maximum(0, gains.differ - price)
        asks = hoped - cost * max(price, 0.0) > np.maximum(0, gains.alone - price)
        second.append(asks)
        strong.append(np.where(asks, gains.told > price, gains.alone > price))
    strong.append(np.ones(len(chance), np.bool_))
    second.append(np.zeros(len(chance), np.bool_))
    return Choices(np.stack(strong), np.stack(second), cost)


def always(gains: Gains, cost: float) -> Choices:
    """The second model sees every prompt, but at the two ends, where nothing hangs on it."""
    made = choose(gains, cost, 2)
    prices = np.quantile(gains.told, np.linspace(1, 0, PRICES))
    strong = np.concatenate([made.strong[:1], gains.told > prices[:, None], made.strong[-1:]])
    second = np.ones_like(strong)
    second[[0, -1]] = False
    return Choices(strong, second, cost)
