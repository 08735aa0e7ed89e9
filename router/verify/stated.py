"""What an answer's evidence is taken to mean where nothing was learnt: curves that are stated, not fitted.

    log odds = logit(prior) + by_least(least log-probability) + by_length(tokens / expected) + cut

The mean log-probability has no part in it: on some kinds of question it is higher for wrong answers.
"""

import math

from router.verify.evidence import CHARS_A_TOKEN, Evidence
from router.verify.judged import Running
from router.verify.odds import logit

SPREAD = 0.15  #: of the posterior mean, on the scale of probability
CORRELATION = 0.0  #: of two models
#: Log odds: none at the least log-probability of `LEAST`, which most answers have, `A_NAT` for each nat above or below.
LEAST, A_NAT, MOST_BY_LEAST = -1.5, 0.5, 1.5
#: Log odds lost each time that the answer becomes twice as long as expected; as many are won where it is half as long.
A_DOUBLING, MOST_BY_LENGTH = 0.75, 1.5
CUT = -1.0  #: log odds, of an answer that ended by its limit of tokens
#: Knots of an answer that still runs, in shares of the expected tokens, and the share that is then still to come.
SHARES = ((0.5, 0.7), (0.75, 0.6), (1.0, 0.5), (1.5, 0.5), (2.0, 0.5), (3.0, 0.5), (4.0, 0.5))


def log_odds(prior: float | None, evidence: Evidence) -> float:
    """Unknown evidence changes nothing; an unknown prior is even."""
    total = logit(prior) if prior is not None else 0.0
    if evidence.least_logprob is not None:
        total += _within(A_NAT * (evidence.least_logprob - LEAST), MOST_BY_LEAST)
    tokens = evidence.output_tokens
    if tokens is None and evidence.answer is not None:
        tokens = round(len(evidence.answer) / CHARS_A_TOKEN)
    if tokens is not None and evidence.expected_tokens is not None:
        total += by_length(tokens / max(1.0, evidence.expected_tokens))
    return total + CUT if evidence.finish_reason == "length" else total


def by_length(ratio: float) -> float:
    """Log odds. `ratio`: tokens to expected tokens."""
    return _within(-A_DOUBLING * math.log2(max(ratio, 1e-3)), MOST_BY_LENGTH)


def running(expected_tokens: float | None) -> Running:
    """By the tokens alone: an answer that still runs behind the expected end is judged as one of twice that length.
    Nothing is known of it where no tokens are expected."""
    if expected_tokens is None or not 1 <= expected_tokens < math.inf:
        return Running()
    count = len(SHARES)
    return Running(
        statistic="tokens",
        tokens=tuple(max(1.0 + k, share * expected_tokens) for k, (share, _) in enumerate(SHARES)),
        intercept=tuple(by_length(max(1.0, 2 * share - 1)) for share, _ in SHARES),
        slope=(0.0,) * count,
        prior_weight=(1.0,) * count,
        left=tuple(part * expected_tokens for _, part in SHARES),
    )


def _within(value: float, most: float) -> float:
    return min(max(value, -most), most)
