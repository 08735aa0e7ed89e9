"""Checks of the branch `objective`: keys of another kind, what a kind needs, and what it clashes with elsewhere."""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from router.config.explain import one_of, shown
from router.config.objective import Objective

#: Keys of one kind alone, and those of them that it needs, one at least.
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "price": (),
    "share": ("member", "share", "of"),
    "budget": ("usd_per_hour", "usd_per_day"),
    "slo": ("ttft_ms", "tpot_ms", "attainment", "shed"),
    "quality": ("of_strongest",),
}
_NEEDED: Final[dict[str, tuple[str, ...]]] = {
    "price": (),
    "share": ("member", "share"),
    "budget": ("usd_per_hour", "usd_per_day"),
    "slo": ("ttft_ms", "tpot_ms"),
    "quality": ("of_strongest",),
}
_DEFAULT: Final = Objective()
_ALL_NEEDED: Final = frozenset({"share"})


class Priced(msgspec.Struct, frozen=True, kw_only=True):
    """What an objective is checked against, of the rest of the config."""

    members: Sequence[str]  #: that may be given a share: no canaries
    usd_per_hour: Sequence[float]  #: of each, canaries included
    price: float  #: lambda
    threshold: bool  #: a rule by win rates is configured
    slo_ttft: bool  #: `routing` has a soft one


def check_objective(objective: Objective, pool: Priced, refuse: Callable[[str, str], None]) -> None:
    """`refuse` raises, with a reason and the key."""
    kind, at = objective.kind, "$.objective"
    for owner, keys in _KEYS.items():
        for key in keys:
            if owner != kind and getattr(objective, key) != getattr(_DEFAULT, key):
                refuse(f"only an objective of `kind: {owner}` has this; this one is of `kind: {kind}`", f"{at}.{key}")
    needed = _NEEDED[kind]
    missing = [key for key in needed if getattr(objective, key) is None]
    if needed and (missing if kind in _ALL_NEEDED else len(missing) == len(needed)):
        said = " and ".join(needed) if kind in _ALL_NEEDED else " or ".join(needed)
        refuse(f"an objective of `kind: {kind}` needs {said}", at)
    if kind != "price" and pool.threshold:
        refuse(f"`routing.threshold` decides by win rates, which no price changes: give it or `kind: {kind}`", at)
    if kind in ("share", "quality") and len(pool.members) < 2:
        refuse(f"`kind: {kind}` divides requests between members: expected two at least, got one", f"{at}.kind")
    _CHECKS[kind](objective, pool, refuse)


def _share(objective: Objective, pool: Priced, refuse: Callable[[str, str], None]) -> None:
    if objective.member not in pool.members:
        expected = f"expected a member that is no canary, {one_of(objective.member or '', pool.members)}"
        refuse(f"{expected}, got {shown(objective.member)}", "$.objective.member")


def _budget(objective: Objective, pool: Priced, refuse: Callable[[str, str], None]) -> None:
    at = "$.objective.usd_per_hour" if objective.usd_per_day is None else "$.objective.usd_per_day"
    if objective.usd_per_hour is not None and objective.usd_per_day is not None:
        refuse("give `usd_per_hour` or `usd_per_day`, not both", at)
    if objective.usd_per_s <= 0:
        refuse("expected a budget above 0, got 0.0", at)
    if not any(pool.usd_per_hour):
        refuse("no member has a price: `usd_per_hour` is 0 for all, and nothing is spent", at)


def _slo(objective: Objective, pool: Priced, refuse: Callable[[str, str], None]) -> None:
    if pool.slo_ttft:
        refuse("give `routing.slo_ttft_s`, which is soft, or this one, not both", "$.objective.ttft_ms")
    if objective.shed and objective.ttft_ms is None:
        refuse("requests are refused by `ttft_ms`, which is not given", "$.objective.shed")
    if not objective.congestion:
        refuse("an SLO is held by prices that follow the load: leave it true", "$.objective.congestion")
    if pool.price == 0:
        refuse("with `routing.price: 0` no price changes a decision; expected one above 0", "$.routing.price")
    if not all(pool.usd_per_hour):
        index = [not usd for usd in pool.usd_per_hour].index(True)
        refuse("a price of 0 cannot rise as an SLO is at risk; expected one above 0", f"$.pool[{index}].usd_per_hour")


def _nothing(objective: Objective, pool: Priced, refuse: Callable[[str, str], None]) -> None:
    return


_CHECKS: Final = {"price": _nothing, "share": _share, "budget": _budget, "slo": _slo, "quality": _nothing}
