"""What a policy needs to know besides the query, the scores and the pool's state."""

from typing import Literal

import msgspec

from router.types import Cause

RuleName = Literal["utility", "threshold", "pinned"]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """One way to decide. `strong` and `weak` are indices in the pool, used by the threshold rule."""

    rule: RuleName = "utility"
    price: float = 0.0  #: lambda, quality points per USD
    threshold: float = 0.5  #: win rate at which the strong model is chosen
    strong: int = 0
    weak: int = 0
    pinned: int = -1
    slo_ttft_s: float | None = None
    most_waiting: int = 2_048  #: members with so many requests waiting take no more
    excluded: frozenset[int] = frozenset()  #: members already tried for this request
    price_of: Cause = ""  #: what steers `price`; empty: it is the configured one
    #: Predicted wait for a first token from which on a member takes no request: where none is below, it is refused.
    shed_ttft_s: float | None = None
    ruled_by: tuple[str, ...] = ()  #: names of the config's rules that held
    ruled_out: frozenset[int] = frozenset()  #: members that they rule out; within `excluded`
