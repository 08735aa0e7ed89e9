"""What to run next, or to stop, and when a running answer is handed over: numbers alone (csrc/plan.hpp, boundary.hpp).

`router.policy.plan` puts them into words. Nothing here keeps state or reads a clock.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from router.native.policy import Numbers

NAMES: tuple[str, ...]  #: of the numbers of an option, the attributes that are read

#: (next, then, answer, worth of stopping, worth of the best course, its expected USD, courses, what has run); a course
#: is (first, then, worth). -1: none. A worth is None where nothing has run, or nothing can be.
_Planned = tuple[int, int, int, float | None, float | None, float, list[tuple[int, int, float]], list[int]]

def plan(options: Iterable[object], price: float, correlation: float = 0.0) -> _Planned:
    """Of objects that have the attributes `NAMES`. Raises ValueError naming what is no such number."""

def plan_of(numbers: Numbers) -> _Planned:
    """Of a decision, from its terms and, where `believe` gave them, beliefs. Its members that a hard rule excludes are
    not run; a rule that is given up where it leaves no member is given up only while nothing has run."""

def believe(
    numbers: Numbers,
    spread: Iterable[float],
    correlation: float = 0.0,
    seen: Mapping[int, float] | None = None,
    cost_usd: Mapping[int, float] | None = None,
) -> Numbers:
    """The same decision, with beliefs. `spread` [members]; `seen`: members that have answered, with the quality of
    their answers now that they were seen; `cost_usd`: to come, of members for which the term's is not it. They are in
    `record()`, and `numbers_of` reads them. Raises ValueError."""

def fixed_value(options: Sequence[object], members: Iterable[int], price: float, correlation: float = 0.0) -> float:
    """E[max] over the members and what has run, less the price of all members not run."""

def most_value(options: Sequence[object], price: float, correlation: float = 0.0) -> float:
    """No plan, of however many models, is worth more."""

def plan_rows(
    quality: npt.NDArray[np.float64],
    cost_usd: npt.NDArray[np.float64],
    spread: npt.NDArray[np.float64],
    run: npt.NDArray[np.uint8],
    price: float,
    correlation: float,
    out: npt.NDArray[np.int32],
) -> None:
    """Fills `out` [rows] with what each row of [rows, models] runs next, -1 to stop. Releases the GIL. ValueError for
    other shapes."""

class Handover:
    """An answer of one model that still runs, and another that could go on with it. Immutable."""

    def __init__(
        self,
        running: object,
        prior: float,
        token_usd: float,
        large_quality: float,
        large_cost_usd: Iterable[float],
        price: float,
        spread: float = 0.0,
        correlation: float = 0.0,
        large_spread: float = 0.0,
        after: bool = True,
    ) -> None:
        """`running`: see `policy.plan.Running`; it has a knot at least. `large_cost_usd`: of handing over at each of
        its knots, and once the answer has ended. Raises ValueError."""

    def knots(self) -> tuple[tuple[float, float], ...]:
        """(tokens, bound) for `WatchSettings.knots`; empty: it is never handed over."""

    def worth(self, tokens: float, statistic: float = 0.0) -> tuple[float, float]:
        """Of going on and of handing over after so many tokens, in quality points; what is spent is left out."""
