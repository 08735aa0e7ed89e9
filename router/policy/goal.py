"""What an objective asks of lambda, what is reached of it, and why it is not held. Pure: callers pass what was seen."""

import math
from typing import TYPE_CHECKING, Final

from router.config import Objective
from router.policy.steered import Lately, Steered
from router.types import Cause

if TYPE_CHECKING:
    from router.native.steering import Sums

#: Answers over which an SLO is judged, and decisions over which a share is: the filter of what was reached.
REACHED_S: Final = 60.0
#: An objective that is missed for so long cannot be held, it seems.
PATIENCE_S: Final = 10.0
#: Where lambda begins that is not configured, and how far it moves from there.
START: Final = 100.0
FURTHEST: Final = 1e6
#: Of the dollars, and of the quality, that are left to be saved, or won: less is nothing.
LITTLE: Final = 0.005
#: Whether a change of lambda would change decisions is seen so much sooner than by how much the aim is missed: else it
#: would go on for as long as that takes.
NOW: Final = 5.0
ATTAINMENT: Final = 0.99
#: Of a share's requests: more than this is not held.
SHARE_OFF: Final = 0.05
_CAUSES: Final[dict[str, Cause]] = {"budget": "budget", "quality": "quality"}
_QUALITIES: Final = ("quality", "least_quality", "best_quality", "strong_quality")
_DOLLARS: Final = ("spent_usd", "least_usd", "best_usd")


class Goal:
    """One objective. `price`: the configured lambda."""

    def __init__(self, objective: Objective, price: float, steered: Steered | None = None) -> None:
        """`steered`: that of the goal before, to go on from."""
        self.objective = objective
        self._configured = price
        start = price or START
        self.steered = steered or Steered(start, start / FURTHEST, start * FURTHEST)
        self._sums: Sums | None = None
        self._lately = Lately("all", "decided", *_DOLLARS, *_QUALITIES)
        self._now = Lately(*_DOLLARS, *_QUALITIES)
        self._given = Lately("given", "offered")
        self._ended = Lately("ended", "missed")
        self._broken_s = self._since_s = 0.0

    @property
    def steers(self) -> bool:
        """Lambda is not the configured one."""
        return self.objective.kind in _CAUSES

    @property
    def price(self) -> float:
        """Lambda."""
        return self.steered.value if self.steers else self._configured

    @property
    def price_of(self) -> Cause:
        return _CAUSES.get(self.objective.kind, "")

    @property
    def attainment(self) -> float:
        return ATTAINMENT if self.objective.attainment is None else self.objective.attainment

    @property
    def broken(self) -> str:
        """Why the objective is not held, for some time now; empty where it is, or nobody knows yet."""
        return self._why_broken() if self._broken_s >= PATIENCE_S else ""

    def step(self, dt_s: float, sums: "Sums | None", spent_ratio: float, ended: int, missed: int) -> None:
        """`sums`: since the start; None: nobody asked for them. `spent_ratio`: what answers cost over what was
        expected. `ended`, `missed`: answers of the last `dt_s`, and those outside the SLO."""
        before, self._sums = self._sums, sums
        if not 0 < dt_s < math.inf:
            return
        self._ended.add(dt_s, REACHED_S, ended=ended, missed=missed)
        if sums is not None and before is not None:
            self._see(dt_s, sums, before, spent_ratio if 0 < spent_ratio < math.inf else 1.0)
        self._broken_s = self._broken_s + dt_s if self._why_broken() else 0.0

    def _see(self, dt_s: float, sums: "Sums", before: "Sums", spent_ratio: float) -> None:
        since = {name: sums[name] - before[name] for name in sums}  # type: ignore[literal-required]
        self._given.add(dt_s, REACHED_S, given=since["given"], offered=since["offered"])
        if not self.steers:
            return
        self.steered.pace(dt_s, since["all"])
        dollars = {name: spent_ratio * since[name] for name in _DOLLARS}
        others = {name: since[name] for name in ("all", "decided", *_QUALITIES)}
        self._lately.add(dt_s, self.steered.filter_s, **dollars, **others)
        qualities = {name: since[name] for name in _QUALITIES}
        self._now.add(dt_s, self.steered.filter_s / NOW, **dollars, **qualities)
        self._since_s += dt_s
        if since["all"] > 0:  # a pause says nothing of what requests should cost
            self.steered.step(self._since_s, self._excess(), rises=self._rises, falls=self._falls)
            self._since_s = 0.0

    def _excess(self) -> float:
        """By how much lambda is to rise: negative, to fall."""
        lately = self._lately
        if self.objective.kind == "budget":
            return lately.per_s("spent_usd") / self.objective.usd_per_s - 1
        reached, least = lately.ratio("quality", "strong_quality"), lately.ratio("least_quality", "strong_quality")
        return (reached - (self.objective.of_strongest or 1.0)) / max(1 - least, 0.02)

    @property
    def _rises(self) -> bool:
        """A larger lambda would change decisions: not all take the cheapest member yet."""
        return self._now.ratio("least_usd", "spent_usd", 1.0) < 1 - LITTLE

    @property
    def _falls(self) -> bool:
        """A smaller one would: not all take the best."""
        return self._now.ratio("quality", "best_quality", 1.0) < 1 - LITTLE

    def aim_and_reached(self) -> tuple[float | None, float | None]:
        goal, kind = self.objective, self.objective.kind
        if kind == "share":
            return goal.share, self._given.ratio("given", "offered")
        if kind == "budget":
            per_day = goal.usd_per_day is not None
            spent = self._lately.per_s("spent_usd") * (86_400 if per_day else 3_600)
            return goal.usd_per_day if per_day else goal.usd_per_hour, spent
        if kind == "slo":
            return self.attainment, 1 - self._ended.ratio("missed", "ended")
        if kind == "quality":
            return goal.of_strongest, self._lately.ratio("quality", "strong_quality")
        return None, None

    def _why_broken(self) -> str:
        aim, reached = self.aim_and_reached()
        if aim is None or reached is None or math.isnan(reached):
            return ""
        return _BROKEN[self.objective.kind](self, aim, reached)

    def _share_broken(self, aim: float, reached: float) -> str:
        if abs(reached - aim) <= SHARE_OFF:
            return ""
        return f"a share of {aim:.3g} for {self.objective.member!r} is not held: {reached:.3g} is reached"

    def _budget_broken(self, aim: float, reached: float) -> str:
        if reached <= 1.05 * aim or self._rises:
            return ""
        a = "a day" if self.objective.usd_per_day is not None else "an hour"
        return f"a budget of ${aim:.4g} {a} cannot be held: the cheapest members take ${reached:.4g} {a}"

    def _slo_broken(self, aim: float, reached: float) -> str:
        if reached >= aim:
            return ""
        return f"the SLO is not held: {100 * reached:.1f} % of the answers are within it, not {100 * aim:.4g} %"

    def _quality_broken(self, aim: float, reached: float) -> str:
        if reached >= aim - LITTLE or self._falls:
            return ""
        return f"a predicted quality of {aim:.3g} of the strongest member's cannot be held: {reached:.3g} is reached"


_BROKEN: Final = {
    "share": Goal._share_broken,
    "budget": Goal._budget_broken,
    "slo": Goal._slo_broken,
    "quality": Goal._quality_broken,
}
