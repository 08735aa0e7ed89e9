"""All prices of one pool: a factor for each device (`congestion`) and lambda (`goal`), steered by what was seen since
the step before. Pure: callers pass the time and what they have seen, and apply what follows.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from router.config import Objective, ObjectiveKind
from router.policy.congestion import DevicePrice, Pressure, surcharge_of
from router.policy.goal import Goal
from router.policy.steered import Lately
from router.types import Cause

if TYPE_CHECKING:
    from router.native.steering import Sums

#: Answers that put a device at risk: the filter of those that missed the SLO.
JUDGED_S: Final = 20.0
#: So much of the time that a first token may take may be spent in queues: the rest is the request's own.
OF_TTFT: Final = 0.5


class MemberSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One member at one moment."""

    name: str
    model: str = ""  #: of one of several engines; empty: `name`
    devices: tuple[tuple[str, float], ...]  #: each with what was paid for it, in USD per hour
    takes_requests: bool = True  #: one that does not puts no device at risk
    wait_s: float = 0.0  #: predicted, for the first token of a request that comes now
    output_token_s: float = 0.0  #: 0: not known


class Answers(msgspec.Struct, frozen=True):
    """Of one member, since the step before."""

    ended: int
    missed: int  #: they were not within the SLO
    unforeseen: int  #: of these: nothing that was predicted of them was at risk


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What one step goes by."""

    members: Sequence[MemberSeen]
    sums: "Sums | None" = None  #: since the start; None: nobody asked for them
    answers: Mapping[str, Answers] = {}  #: by member
    spent_ratio: float = 1.0  #: what answers cost, over what they were expected to


class DeviceTold(msgspec.Struct, frozen=True, kw_only=True):
    """One device's price."""

    device: str
    usd_per_hour: float  #: as bought
    factor: float  #: on that
    cause: Cause  #: why it is above 1
    wait_s: float  #: predicted, as it is acted upon


class PricesTold(msgspec.Struct, frozen=True, kw_only=True):
    """What the prices are, and what they reach."""

    objective: ObjectiveKind
    price: float  #: lambda
    price_of: Cause  #: what steers it
    aim: float | None = None  #: a share, USD an hour or day, an attainment, a share of the strongest's quality
    reached: float | None = None  #: of that, lately, quality as predicted; None: nothing has been seen yet
    broken: str = ""  #: why the aim is not held, in words
    devices: tuple[DeviceTold, ...] = ()


class Prices:
    """Of one pool. What was learnt of a device stays as long as a member lives on it."""

    def __init__(self, objective: Objective, price: float, slo_ttft_s: float | None = None) -> None:
        """`price`: the configured lambda; `slo_ttft_s`: the configured soft one."""
        self.devices: dict[str, DevicePrice] = {}
        self.goal = Goal(objective, price)
        self._usd: dict[str, float] = {}
        self._before_s = math.nan
        self._missed: dict[str, Lately] = {}
        self._configured = (objective, price, slo_ttft_s)

    def aim(self, objective: Objective, price: float, slo_ttft_s: float | None = None) -> None:
        """Another objective, or the same, from now on. Devices' prices go on from where they are; so does lambda, where
        an objective of the same kind steers it."""
        before = self._configured
        if (objective, price, slo_ttft_s) == before:
            return
        goes_on = objective.kind == before[0].kind and price == before[1]
        self.goal = Goal(objective, price, self.goal.steered if goes_on else None)
        self._configured = (objective, price, slo_ttft_s)
        for device in self.devices.values():
            device.aim(self._goal_s, objective.most_factor, self._queue)
            if not objective.congestion:
                device.rest()

    @property
    def _ttft_s(self) -> float | None:
        objective, _, slo_ttft_s = self._configured
        return slo_ttft_s if objective.ttft_ms is None else objective.ttft_ms / 1e3

    @property
    def _goal_s(self) -> float:
        ttft_s = self._ttft_s
        return self.goal.objective.queue_s if ttft_s is None else OF_TTFT * ttft_s

    @property
    def _queue(self) -> Cause:
        return "queue" if self._ttft_s is None else "slo_ttft"

    # What follows

    @property
    def shed_ttft_s(self) -> float | None:
        """Predicted wait from which on a request is refused where no member is faster."""
        ttft_ms, shed = self.goal.objective.ttft_ms, self.goal.objective.shed
        return None if ttft_ms is None or shed is False else ttft_ms / 1e3

    def surcharge(self, devices: Sequence[tuple[str, float]]) -> tuple[float, Cause]:
        """On what a member pays that lives on these, and why."""
        return surcharge_of([(usd, self.devices[name]) for name, usd in devices if name in self.devices])

    def told(self) -> PricesTold:
        goal = self.goal
        devices = tuple(
            DeviceTold(
                device=name,
                usd_per_hour=self._usd[name],
                factor=price.factor,
                cause=price.cause,
                wait_s=price.wait_s,
            )
            for name, price in self.devices.items()
        )
        aim, reached = goal.aim_and_reached()
        return PricesTold(
            objective=goal.objective.kind,
            price=goal.price,
            price_of=goal.price_of,
            aim=aim,
            reached=None if reached is None or math.isnan(reached) else reached,
            broken=goal.broken,
            devices=devices,
        )

    # A step

    def step(self, now_s: float, seen: Seen) -> None:
        """`now_s`: of any clock. One that jumps, or stands still, changes nothing much."""
        dt_s, self._before_s = now_s - self._before_s, now_s
        pressures = self._pressures(dt_s, seen)
        for name in [name for name in self.devices if name not in pressures]:
            del self.devices[name]
        for name, pressure in pressures.items():
            if name not in self.devices:
                self.devices[name] = DevicePrice(self._goal_s, self.goal.objective.most_factor, self._queue)
            if self.goal.objective.congestion:
                self.devices[name].step(dt_s, pressure)
        came = list(seen.answers.values())
        ended, missed = sum(each.ended for each in came), sum(each.missed for each in came)
        self.goal.step(dt_s, seen.sums, seen.spent_ratio, ended, missed)

    def _pressures(self, dt_s: float, seen: Seen) -> dict[str, Pressure]:
        """Of each device, the worst of its members'."""
        found: dict[str, Pressure] = {}
        self._usd = {name: usd for member in seen.members for name, usd in member.devices}
        for gone in self._missed.keys() - {member.name for member in seen.members}:
            del self._missed[gone]
        for member in seen.members:
            pressure = self._pressure_of(dt_s, member, seen.answers.get(member.model or member.name))
            for name, _ in member.devices:
                found[name] = _worse(found[name], pressure) if name in found else pressure
        return found

    def _pressure_of(self, dt_s: float, member: MemberSeen, answers: Answers | None) -> Pressure:
        objective = self.goal.objective
        missed = self._missed_of(dt_s, member.name, answers) if objective.kind == "slo" else 0.0
        if not member.takes_requests:
            return Pressure()
        token = member.output_token_s * 1e3 / objective.tpot_ms if objective.tpot_ms else 0.0
        return Pressure(wait_s=member.wait_s, output_token=token, missed=missed)

    def _missed_of(self, dt_s: float, name: str, answers: Answers | None) -> float:
        """Share of the member's answers that missed the SLO lately, over the share that may: of those alone that were
        not foreseen, as what is foreseen is acted upon already. One of few answers is no share yet."""
        lately = self._missed.setdefault(name, Lately("ended", "missed"))
        came = answers or Answers(0, 0, 0)
        lately.add(dt_s, JUDGED_S, ended=came.ended, missed=came.unforeseen)
        allowed = 1 - self.goal.attainment
        judged = max(lately.per_s("ended") * JUDGED_S, 1 / allowed)
        return lately.per_s("missed") * JUDGED_S / judged / allowed


def _worse(one: Pressure, other: Pressure) -> Pressure:
    """Of each number the higher; NaN says nothing."""
    return Pressure(
        wait_s=_higher(one.wait_s, other.wait_s),
        output_token=_higher(one.output_token, other.output_token),
        missed=_higher(one.missed, other.missed),
    )


def _higher(one: float, other: float) -> float:
    return one if one >= other or math.isnan(other) else other
