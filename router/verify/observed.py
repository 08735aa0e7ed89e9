"""The numbers of an answer that a judge weighs: length, token statistics, repetition, agreement and the prior. All can
be read in microseconds, none needs the answer to be understood. Unknown numbers are NaN. Knows no weights.
"""

import math

from router.verify.evidence import CHARS_A_TOKEN, UNKNOWN, Evidence
from router.verify.odds import logit
from router.watched import Figures

LOOPED = 320  #: characters at the end of an answer in which repetition is looked for
RUN = 3  #: words that make a repetition
NEAR = 0.01  #: nats, below which differences of log-probability, entropy and margin count for less

#: Each number with the sign that it has with P(right) wherever it is used alone: an answer that runs long, is cut off,
#: is unsure or repeats itself is more often wrong. Log-probabilities, entropies and margins are taken on a log scale
#: (`sureness`, its negative of entropies): most tokens are nearly sure, and by how much tells more than the tail.
SIGNS: dict[str, int] = {
    "tokens": -1,  # log of the output tokens, against what the model's answers have on average
    "excess": -1,  # log of the output tokens, against what was expected of this prompt
    "cut": -1,  # 1: it ended by its limit of tokens
    "mean_logprob": 1,
    "least_logprob": 1,
    "recent_logprob": 1,
    "surprise": -1,  # log(1 + nats of the whole answer)
    "mean_entropy": -1,
    "recent_entropy": -1,
    "mean_margin": 1,
    "least_margin": 1,
    "recent_margin": 1,
    "first_logprob": 1,
    "first_entropy": -1,
    "repeated": -1,  # share of runs of three words, near the end, that stood there before
    "sample_agreement": 1,
    "agreement": 1,
    "prior": 1,  # log odds, by the head
}
OBSERVED = tuple(SIGNS)
_NO_FIGURES = (UNKNOWN,) * 11


def observed(evidence: Evidence, prior: float | None, typical_tokens: float) -> tuple[float, ...]:
    """In the order of `OBSERVED`. `typical_tokens`: of this model's answers, on average; `prior`: 0..1."""
    figures, expected = evidence.figures, evidence.expected_tokens
    tokens = _tokens(evidence)
    length = math.log(max(tokens, 1.0)) if tokens == tokens else UNKNOWN
    return (
        length - math.log(typical_tokens),
        length - math.log(max(expected, 1.0)) if expected is not None else UNKNOWN,
        UNKNOWN if evidence.finish_reason is None else float(evidence.finish_reason == "length"),
        *(_by_figures(figures) if figures is not None and figures.tokens > 0 else _by_means(evidence, tokens)),
        repeated(evidence.answer),
        UNKNOWN if evidence.sample_agreement is None else evidence.sample_agreement,
        UNKNOWN if evidence.agreement is None else evidence.agreement,
        UNKNOWN if prior is None else logit(prior),
    )


def repeated(answer: str | None) -> float:
    """The share of the runs of three words in the last `LOOPED` characters that are repetitions; 0 of fewer words."""
    if answer is None:
        return UNKNOWN
    words = answer[-LOOPED:].split()
    count = len(words) - RUN + 1
    return 1 - len(set(zip(words, words[1:], words[2:], strict=False))) / count if count > 0 else 0.0


def _tokens(evidence: Evidence) -> float:
    if evidence.output_tokens is not None:
        return evidence.output_tokens
    return len(evidence.answer) / CHARS_A_TOKEN if evidence.answer is not None else UNKNOWN


def sureness(nats: float) -> float:
    """-log of the nats that a log-probability (below 0) or an entropy is away from certainty; rising with sureness."""
    return -math.log(NEAR + abs(nats)) if nats == nats else UNKNOWN


def _by_figures(at: Figures) -> tuple[float, ...]:
    return (
        sureness(at.mean_logprob), sureness(at.least_logprob), sureness(at.recent_logprob),
        math.log1p(max(0.0, -at.mean_logprob * at.tokens)), -sureness(at.mean_entropy), -sureness(at.recent_entropy),
        -sureness(at.mean_margin), -sureness(at.least_margin), -sureness(at.recent_margin),
        sureness(at.first_logprob), -sureness(at.first_entropy),
    )  # fmt: skip


def _by_means(evidence: Evidence, tokens: float) -> tuple[float, ...]:
    mean, least = evidence.mean_logprob, evidence.least_logprob
    if mean is None and least is None:
        return _NO_FIGURES
    whole = math.log1p(max(0.0, -mean * tokens)) if mean is not None and tokens == tokens else UNKNOWN
    known = (UNKNOWN if mean is None else sureness(mean), UNKNOWN if least is None else sureness(least))
    return (*known, UNKNOWN, whole, *_NO_FIGURES[4:])
