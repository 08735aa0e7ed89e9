"""Statistics of rows of logits in one reading, and the watch on running answers that goes by them. Logarithms are
natural. The numbers of `orders` and `states` are those of csrc/watch.hpp, in its order."""

from typing import Literal

import numpy as np
import numpy.typing as npt

#: Numbers of one order and of one state.
ORDER_FLOATS: int
STATE_FLOATS: int

def isas() -> tuple[str, ...]:
    """The instruction sets that this machine can run, best first."""

def row_statistics(
    logits: npt.NDArray[np.float32] | npt.NDArray[np.uint16],
    *,
    kind: Literal["float32", "bfloat16", "float16"] = "float32",
    isa: str | None = None,
) -> npt.NDArray[np.float32]:
    """float32 [rows, 5] of `logits` [rows, vocabulary], 16-bit ones as their bits: log-probability of the likeliest
    token, entropy, log-probability margin to the second (at most 87), log-sum-exp, the likeliest token.

    A row with a NaN or +inf, or without a finite value, gives NaN, and the token -1. Raises ValueError naming the
    argument.
    """

class Watcher:
    """Steps of an engine over shared arrays, which are kept; one thread at a time."""

    def __init__(
        self,
        orders: npt.NDArray[np.float32],
        states: npt.NDArray[np.float32],
        weights: npt.NDArray[np.float32],
        kept: npt.NDArray[np.float32],
        first_ids: npt.NDArray[np.int32],
        places: npt.NDArray[np.uint8],
        *,
        stop: int,
        hidden: int = -1,
        isa: str | None = None,
    ) -> None:
        """`orders` [slots, 32], `states` [slots, 2, 16], `weights` and `kept` [slots, firsts], `first_ids` [firsts],
        `places` [vocabulary]: 1 where an answer may end before that token, 2 where it may if what is before does not
        end in white space, and 4 more where the token does. `stop` ends a row; `hidden` is never sampled in a watched
        one, -1 for none. Raises ValueError naming the argument."""

    def watch(
        self,
        logits: npt.NDArray[np.float32],
        rows: npt.NDArray[np.int32],
        slots: npt.NDArray[np.int32],
        generations: npt.NDArray[np.float32],
        made: npt.NDArray[np.float32],
    ) -> int:
        """One step: of each watched row its slot, whose it is, and how many tokens its answer has. Writes the states,
        and those rows of `logits` [rows, vocabulary] that are to stop. Returns how many are."""
