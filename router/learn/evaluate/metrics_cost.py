"""Measures of a router over many models: quality against cost. Works on numbers only.

AIQ is that of RouterBench (Hu et al., 2024, section 3.3): the area under the non-decreasing convex hull of quality over
cost, divided by the range of costs.
"""

import numpy as np
import numpy.typing as npt

ROUNDING = 1e-9  #: of a mean

Doubles = npt.NDArray[np.float64]


def hull(cost: Doubles, quality: Doubles) -> tuple[Doubles, Doubles]:
    """The corners of the non-decreasing convex hull, by rising cost: what any mix of the points may reach."""
    order = np.lexsort((-quality, cost))
    corners: list[tuple[float, float]] = []
    for c, q in zip(cost[order].tolist(), quality[order].tolist(), strict=True):
        if corners and q <= corners[-1][1]:
            continue  # dearer and no better
        while len(corners) > 1 and _below(corners[-2], corners[-1], (c, q)):
            corners.pop()
        corners.append((c, q))
    found = np.array(corners)
    return found[:, 0], found[:, 1]


def aiq(cost: Doubles, quality: Doubles, low: float, high: float) -> float:
    """Mean quality of the hull over the costs `low` to `high`; beyond its dearest corner it goes on level.

    Raises ValueError where no point is as cheap as `low`, or the range is empty.
    """
    c, q = hull(cost, quality)
    if not low < high:
        raise ValueError("the range of costs is empty")
    if c[0] > low * (1 + ROUNDING):
        raise ValueError(f"no point is as cheap as {low}")
    inside = (c > low) & (c < high)
    at = np.concatenate([[low], c[inside], [high]])
    return float(np.trapezoid(np.interp(at, c, q), at) / (high - low))


def cost_of(cost: Doubles, quality: Doubles, reach: float) -> float:
    """The cost of the cheapest point of at least this quality; infinite where there is none."""
    enough = quality >= reach
    return float(cost[enough].min()) if enough.any() else float("inf")


def _below(first: tuple[float, float], middle: tuple[float, float], last: tuple[float, float]) -> bool:
    """Whether the middle point lies on or under the line from first to last."""
    rise = (middle[1] - first[1]) * (last[0] - first[0])
    return rise <= (last[1] - first[1]) * (middle[0] - first[0])
