"""What prices are to reach: the branch `objective`. Which of its keys belong together: `objective_checks`."""

from typing import Literal

import msgspec

from router.config.bounds import Factor, Milliseconds, Part, Price, Seconds

ObjectiveKind = Literal["price", "share", "budget", "slo", "quality"]


class Objective(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What prices are to reach. A key that is null belongs to another kind, or has its default."""

    #: `price`: lambda stays `routing.price`; else it, the devices' prices or a member's threshold are steered.
    kind: ObjectiveKind = "price"
    congestion: bool = True  #: a device's price rises above the bought one while its queue or an SLO is at risk
    queue_s: Seconds = 1.0  #: predicted wait for a first token at which it rises, where no SLO says another
    most_factor: Factor = 1_000.0  #: by which it rises at most
    member: str | None = None  #: of `share`: who gets it
    share: Part | None = None  #: of `share`: of all that it could get
    of: Literal["requests", "tokens"] = "requests"  #: of `share`: what is counted
    usd_per_hour: Price | None = None  #: of `budget`: of the requests' engine time, at bought prices
    usd_per_day: Price | None = None  #: or of a day
    ttft_ms: Milliseconds | None = None  #: of `slo`: until the first token
    tpot_ms: Milliseconds | None = None  #: of `slo`: for each token after it
    attainment: Part | None = None  #: of `slo`: share of the answers that are within it; default: .99
    shed: bool | None = None  #: of `slo`: requests that no member would begin in time are refused; default: true
    of_strongest: Part | None = None  #: of `quality`: at least so much of the strongest member's, as predicted

    @property
    def usd_per_s(self) -> float:
        """The budget; 0: there is none."""
        return (self.usd_per_hour or 0.0) / 3_600 + (self.usd_per_day or 0.0) / 86_400
