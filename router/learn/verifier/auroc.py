"""How well answers are told apart, beside what needs no training: their length, mean and least log-probability."""

from collections.abc import Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.verifier.answered import Answered

Floats = npt.NDArray[np.float64]


class Alone(msgspec.Struct, frozen=True, kw_only=True):
    """[answers] each, higher: more likely right; NaN: unknown."""

    scores: Mapping[str, Floats]

    def of(self, mask: npt.NDArray[np.bool_]) -> dict[str, Floats]:
        """Of those answers, the scores that are known of all of them."""
        parts = {name: values[mask] for name, values in self.scores.items()}
        return {name: values for name, values in parts.items() if np.isfinite(values).all()}


def alone(known: Answered) -> Alone:
    means, leasts = (
        np.array([np.nan if (value := getattr(one, name)) is None else value for one in known.evidence])
        for name in ("mean_logprob", "least_logprob")
    )
    return Alone(scores={"length": -known.lengths(), "mean_logprob": means, "least_logprob": leasts})


def auc(right: npt.NDArray[np.floating], said: npt.NDArray[np.floating]) -> float:
    """The probability that a right answer is put above a wrong one; ties count half (Mann and Whitney, 1947)."""
    yes = right > 0.5
    _, rank, count = np.unique(said, return_inverse=True, return_counts=True)
    middle = (np.cumsum(count) - (count - 1) / 2)[rank]
    ahead = middle[yes].sum() - yes.sum() * (yes.sum() + 1) / 2
    return float(ahead / max(1, yes.sum() * (~yes).sum()))


def least_lead(right: npt.NDArray[np.floating], said: Floats, beside: Mapping[str, Floats]) -> float:
    """AUROC of what is said, less that of the best beside it; 0 where there is none."""
    return auc(right, said) - max(auc(right, score) for score in beside.values()) if beside else 0.0
