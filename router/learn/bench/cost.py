"""What a cell cost, in dollars: by engine seconds, by the hour, or by tokens, and by which of them a run compares."""

from collections.abc import Sequence
from typing import Literal

from router.learn.bench.policies import Policy
from router.learn.bench.rows import Cell, Row

#: `engine`: CPU seconds of the engines that may answer, at each one's price a second. `rent`: all that they hold, for
#: as long as the cell took. `tokens`: by list prices. `own`: of each policy the first of the three that is known.
Basis = Literal["engine", "rent", "tokens", "own"]
_ALL: tuple[Basis, ...] = ("engine", "rent", "tokens")


def basis_of(policies: Sequence[Policy], cells: Sequence[Cell]) -> Basis:
    """The first by which all policies can be charged, so that they are compared by one rule."""
    for basis in _ALL:
        if all(_known(policy, [c for c in cells if c.policy == policy.name], basis) for policy in policies):
            return basis
    return "own"


def cost_usd(policy: Policy, cells: Sequence[Cell], rows: Sequence[Row], basis: Basis) -> float | None:
    """Of all `cells` of one policy, warm-up included; `rows` are theirs. None: no price is known."""
    if basis == "own":
        first = next((one for one in _ALL if _known(policy, cells, one)), None)
        return None if first is None else cost_usd(policy, cells, rows, first)
    if not _known(policy, cells, basis):
        return None
    hourly = {member.name: member.usd_per_hour for member in policy.members}
    if basis == "engine":
        return sum(hourly[name] / 3600.0 * s for cell in cells for name, s in cell.engine_s.items())
    if basis == "rent":
        return _rent(policy) / 3600.0 * sum(cell.wall_s for cell in cells)
    price = policy.price
    inputs, outputs = sum(row.input_tokens for row in rows), sum(row.output_tokens for row in rows)
    return (inputs * (price.usd_per_million_in or 0.0) + outputs * (price.usd_per_million_out or 0.0)) / 1e6


def _rent(policy: Policy) -> float:
    """Dollars an hour."""
    told = policy.price.usd_per_hour
    return sum(member.usd_per_hour for member in policy.members) if told is None else told


def _known(policy: Policy, cells: Sequence[Cell], basis: Basis) -> bool:
    if basis == "tokens":
        return policy.price.usd_per_million_out is not None
    if basis == "engine":
        return _rent(policy) > 0 and all(cell.engine_s for cell in cells)
    return _rent(policy) > 0
