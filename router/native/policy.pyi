"""The numbers of a decision, made and kept natively (csrc/policy.hpp): terms, hard rules, choice. No words, no clock.

The one place of this arithmetic. `policy.decide` puts it into words for live traffic, replay and calibration alike; the
native chat path asks it without Python. A twin in Python stands in tests/policy.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from router.native.fleet import Picks
from router.native.steering import Steering
from router.types import Decision, DecisionNumbers, Query, Scores, Snapshot, Term

NAMES: Mapping[str, tuple[str, ...]]  #: of all numbers, by the field of `DecisionNumbers` that holds them

class Rule:
    """`policy.Settings` as numbers."""

    def __init__(self, settings: object) -> None:
        """Raises ValueError naming the setting that is none."""

class Numbers:
    """All that one decision read (question, settings, members' states, scores) and what it chose. Immutable.

    Some 80 bytes a member. Terms are made again when asked for, by the same code, so to the same bits. Pickled as its
    record.
    """

    models: tuple[str, ...]  #: names, in the pool's order
    member: int  #: chosen; -1: none can serve, and the column `excluded` says why
    reason: str
    replica: int  #: which of the engines of the model chosen; -1: it has one only
    pinned: int  #: of the settings; -1 where they pin none
    def decision(self, id: str, reason: str | None = None) -> Decision:
        """In words; `reason` in place of the rule's own. Raises Refused where none can serve."""

    def note(self, steering: Steering) -> None:
        """This decision was acted upon, for a request's first leg."""

    def settle(self, steering: Steering, tokens: float) -> None:
        """Its request had so many tokens."""

    def terms(self) -> tuple[Term, ...]: ...
    def column(self, name: str) -> Sequence[float | str | None]:
        """One number of every member's `Term`, by its name. Raises ValueError for a name that is none."""

    def record(self) -> DecisionNumbers:
        """To be written down; `numbers_of` reads it."""

class Refused(Exception):
    """No member can serve; `numbers` tell why."""

    numbers: Numbers

def decide(query: Query, scores: Scores, pool: Snapshot | Picks, settings: object, draw: float = 0.0) -> Numbers:
    """By `policy.Settings`. `draw`: a canary whose weight reaches it takes the request; 0: none does. What a member's
    state holds is read once, for as long as it stays the same object.

    Raises ValueError where a value is no number, `scores` are not as many as members, or a pin is no member.
    """

def decision(
    query: Query,
    scores: Scores,
    pool: Snapshot | Picks,
    settings: object,
    id: str,
    reason: str | None = None,
    draw: float = 0.0,
) -> Decision:
    """`decide` and `Numbers.decision` in one call."""

def decide_again(numbers: Numbers, settings: object | None = None) -> Numbers:
    """The same question, members and scores by other `policy.Settings`; None: by those it was decided by."""

def numbers_of(record: DecisionNumbers) -> Numbers:
    """What is not recorded is 0. Raises ValueError where a column is not as long as there are models."""

def win_rate(strong: float, weak: float) -> float:
    """P(the strong model is the better answer): sigmoid of the difference of logits (RouteLLM, eq. 2)."""

def best(
    quality: npt.NDArray[np.float64], cost_usd: npt.NDArray[np.float64], price: float, out: npt.NDArray[np.int32]
) -> None:
    """Fills `out` [rows] with the argmax of quality - price * cost of each row of [rows, models], C-contiguous; ties as
    `decide` resolves them: the cheaper, then the first. ValueError for other shapes. Releases the GIL."""
