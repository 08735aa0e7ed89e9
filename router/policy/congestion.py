"""The price of one device's time: a factor on what was paid for it, 1 while there is slack, higher as its engines'
queue or an SLO is at risk. A proportional-integral controller of the factor's logarithm; pure, callers pass the time.

    factor = exp(x)        x = I + 2 * risk        dI/dt = 0.2 * risk - slack        0 <= I, x <= log(most)

The risk is the wait beyond its goal, in seconds, or how far another goal is missed. A backlog is the integral of what
is sent to a device beyond what it can do, so that the first term answers the excess and the second the backlog that is
left: price by rate and backlog mismatch, as in Athuraliya, Li, Low and Yin, "REM: active queue management", IEEE
Network 15 (2001). Both are clamped, and the integral waits while a backlog drains: it does not wind up. docs/price.md
says why these gains hold for pools of any size.
"""

import math
from typing import Final

import msgspec

from router.types import Cause

#: Time constant of the wait that is acted upon.
FILTER_S: Final = 2.0
#: Of the logarithm: at a risk of 1, and per second at a risk of 1.
PER_RISK: Final = 2.0
PER_RISK_S: Final = 0.2
#: Where nothing has been near its goal for s seconds: it falls by so much * s a second more.
SLACK: Final = 0.01
MOST_SLACK: Final = 0.3
#: A backlog that falls by more than this, in seconds a second, drains without being told to.
DRAINS: Final = 0.2
#: A step of the clock counts as no more: it jumped, or the process was stopped.
MOST_STEP_S: Final = 2.0
#: More than this beyond a goal says nothing more.
MOST_RISK: Final = 4.0


class Pressure(msgspec.Struct, frozen=True, kw_only=True):
    """What a device's engines say at one moment, the worst of them. NaN: not known."""

    wait_s: float = 0.0  #: predicted, for the first token of a request that comes now
    output_token: float = 0.0  #: predicted time per output token, over the SLO's
    missed: float = 0.0  #: share of answers that missed the SLO lately, unforeseen, over the share that may


class DevicePrice:
    """One device's. `goal_s`: the wait at which its price stays as it is; `most`: the largest factor."""

    def __init__(self, goal_s: float, most: float, queue: Cause = "queue") -> None:
        """`queue`: how a wait is called that is too long."""
        self.cause: Cause = ""  #: why the factor is above 1
        self.factor = 1.0
        self.wait_s = 0.0  #: as it is acted upon
        self._goal_s, self._most, self._queue = goal_s, math.log(most), queue
        self._integral = self._slack_s = self._told_s = self._output_token = 0.0

    def aim(self, goal_s: float, most: float, queue: Cause) -> None:
        """At another goal from now on; the factor goes on from where it is."""
        self._goal_s, self._most, self._queue = goal_s, math.log(most), queue
        self._integral = min(self._integral, self._most)

    def rest(self) -> None:
        """At the bought price, from now on."""
        self.factor, self.cause, self._integral, self._slack_s = 1.0, "", 0.0, 0.0

    def step(self, dt_s: float, pressure: Pressure) -> None:
        """`dt_s` since the step before; one that is none, or negative, is passed over."""
        if not 0 < dt_s < math.inf:
            return
        dt_s = min(dt_s, MOST_STEP_S)
        drains = self._drains(dt_s, pressure.wait_s)
        risk, cause = self._risk(dt_s, pressure)
        self._slack_s = self._slack_s + dt_s if self._idle(pressure) else 0.0
        rise = 0.0 if risk > 0 and drains and cause == self._queue else PER_RISK_S * risk
        rise -= min(SLACK * self._slack_s, MOST_SLACK)
        self._integral = min(max(self._integral + rise * dt_s, 0.0), self._most)
        x = min(max(self._integral + PER_RISK * risk, 0.0), self._most)
        self.factor = math.exp(x)
        self.cause = cause if x > 0 else ""

    def _drains(self, dt_s: float, wait_s: float) -> bool:
        before_s, self._told_s = self._told_s, _bounded(wait_s, math.inf, self._told_s)
        return self._told_s < before_s - DRAINS * dt_s

    def _risk(self, dt_s: float, pressure: Pressure) -> tuple[float, Cause]:
        """The highest of all, and of what."""
        lately = 1 - math.exp(-dt_s / FILTER_S)
        told_s = _bounded(pressure.wait_s, self._goal_s + MOST_RISK, self.wait_s)
        self.wait_s += lately * (told_s - self.wait_s)
        told = _bounded(pressure.output_token, 1 + MOST_RISK, self._output_token)
        self._output_token += lately * (told - self._output_token)
        missed = _bounded(pressure.missed, 1 + MOST_RISK, 0.0)
        risks: tuple[tuple[float, Cause], ...] = (
            (max(self.wait_s - self._goal_s, -1.0), self._queue),
            (self._output_token - 1, "slo_tpot"),
            (missed - 1, "slo_missed"),
        )
        return max(risks, key=lambda each: each[0])

    def _idle(self, pressure: Pressure) -> bool:
        """Far from every goal."""
        return self.wait_s < self._goal_s / 2 and self._output_token < 0.8 and not pressure.missed > 0.5


def _bounded(value: float, most: float, otherwise: float) -> float:
    """`otherwise` for what is no number, or negative."""
    return min(value, most) if value >= 0 else otherwise


def surcharge_of(prices: list[tuple[float, DevicePrice]]) -> tuple[float, Cause]:
    """Of a member on devices of these bought prices: the mean, weighed by what they cost, and why."""
    weights = [usd for usd, _ in prices]
    if not prices or sum(weights) <= 0:
        weights = [1.0] * len(prices)
    total = sum(weights)
    if not total:
        return 0.0, ""
    above = sum(weight * (price.factor - 1) for weight, (_, price) in zip(weights, prices, strict=True)) / total
    return above, max(prices, key=lambda each: each[1].factor)[1].cause
