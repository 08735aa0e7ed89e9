"""Whether a request kept its objective, and a policy a level of load."""

from collections.abc import Sequence

from router.learn.bench.plan import Slo
from router.learn.bench.rows import Cell, Row

ANSWERED = 0.9  #: of the requests of a window, the share of answers within it at which a load is held without an SLO


def tpot_us(row: Row) -> float | None:
    """Mean time per output token after the first; None where an answer has one token, or none."""
    return sum(row.gaps_us) / (row.output_tokens - 1) if row.output_tokens > 1 and row.gaps_us else None


def kept(row: Row, slo: Slo) -> bool:
    """Answered, and within every bound. An answer without a second token has no time per token to exceed."""
    if row.fault:
        return False
    tpot = tpot_us(row)
    if slo.ttft_ms is not None and (row.e2e_us if row.ttft_us is None else row.ttft_us) > slo.ttft_ms * 1e3:
        return False
    if slo.tpot_ms is not None and tpot is not None and tpot > slo.tpot_ms * 1e3:
        return False
    return slo.e2e_ms is None or row.e2e_us <= slo.e2e_ms * 1e3


def within(row: Row, cell: Cell) -> bool:
    """Whether its answer ended within the cell's window."""
    return cell.from_s <= row.at_s + row.e2e_us / 1e6 < cell.to_s


def holds(rows: Sequence[Row], cell: Cell, slo: Slo | None, attain: float) -> bool:
    """Of the requests after warm-up, `attain` within the SLO. Without one: nearly as many answers within the window as
    requests, so that no queue grows."""
    measured = [row for row in rows if not row.warm]
    if not measured:
        return True
    if slo is not None:
        return sum(kept(row, slo) for row in measured) >= attain * len(measured)
    return sum(not row.fault and within(row, cell) for row in rows) >= ANSWERED * len(measured)
