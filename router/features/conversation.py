"""A conversation as weighted texts: the last user turn counts most. Knows nothing of models or tables."""

from collections.abc import Sequence

from router.native.spec import TurnWeights
from router.types import Segment, Turn

_INSTRUCTIONS = frozenset({"system", "developer"})
_DEFAULT = TurnWeights()


def segments(turns: Sequence[Turn], weights: TurnWeights = _DEFAULT) -> tuple[Segment, ...]:
    """The texts that are scored, each with its weight; the head divides by their sum.

    The last user turn (without one, the last turn that is no instruction) weighs 1. Instructions share
    `weights.system` equally. All other turns share `weights.earlier`, each `weights.decay` times the next of them.
    Empty turns are left out, unless nothing else is there.
    """
    if len(turns) == 1:
        return ((turns[0].text, 1.0),)
    spoken = [turn for turn in turns if turn.text]
    if not spoken:
        return (("", 1.0),)
    main = _main(spoken)
    asides = [i for i, turn in enumerate(spoken) if i != main and turn.role in _INSTRUCTIONS]
    others = [i for i, turn in enumerate(spoken) if i != main and turn.role not in _INSTRUCTIONS]
    weight = [1.0] * len(spoken)
    for i in asides:
        weight[i] = weights.system / len(asides)
    shares = [weights.decay**distance for distance in range(len(others))]
    all_shares = sum(shares)  # once: a conversation may have 100,000 turns
    for i, share in zip(reversed(others), shares, strict=True):
        weight[i] = weights.earlier * share / all_shares
    return tuple([(turn.text, w) for turn, w in zip(spoken, weight, strict=True)])


def _main(turns: Sequence[Turn]) -> int:
    """Index of the turn that asks."""
    last_spoken = len(turns) - 1
    for i in range(len(turns) - 1, -1, -1):
        if turns[i].role == "user":
            return i
        if turns[i].role not in _INSTRUCTIONS and turns[last_spoken].role in _INSTRUCTIONS:
            last_spoken = i
    return last_spoken
