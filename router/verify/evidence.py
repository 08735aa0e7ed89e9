"""The evidence of one answer, and the numbers that a verifier weighs: token statistics, form, sums.

A number that is not known is NaN; none is guessed. Reads English words, and any Unicode of any length. Knows no
weights.
"""

import math
import re
from collections.abc import Iterator

import msgspec

from router.verify.odds import logit
from router.verify.working import READ, working
from router.watched import Figures

CHARS_A_TOKEN = 4
KNOTS = (100, 200, 400, 800, 1600, 3200)  #: characters at which the weight of the length may change

UNKNOWN = math.nan
_WORD = re.compile(r"[^\W\d_]+|[%$]|\d/\d")
_HEDGES = frozenset((
    "however", "mistake", "mistakes", "impossible", "possible", "cannot", "unclear", "assume", "assuming", "assumed",
    "approximately", "about", "round", "rounded", "rounding", "negative", "unknown", "error", "actually", "instead",
    "wait", "sorry", "should",
))  # fmt: skip
_ALGEBRA = frozenset(("let", "denote", "equation", "equations", "variable", "variables"))
#: What a question asks for, by the words that give it away.
_ASKS = {
    name: frozenset(words.split())
    for name, words in {
        "percent": "% percent percentage",
        "fraction": "half halves third thirds quarter quarters fourth fourths fifth fifths",
        "times": "times",
        "compare": "than",
        "more": "more",
        "if": "if",
        "each": "each per every",
        "left": "left remain remaining remains remainder",
        "total": "total altogether all",
        "average": "average",
        "age": "ago old age",
        "clock": "hour hours minute minutes",
        "money": "$ dollar dollars cent cents",
    }.items()
}


class Evidence(msgspec.Struct, frozen=True, kw_only=True):
    """One answer. None: not known; a verifier then goes by what it learnt of answers of which that was not known."""

    prompt: str | None = None  #: the user's last turn
    answer: str | None = None
    output_tokens: int | None = None  #: read where there is no text
    mean_logprob: float | None = None  #: of the answer's tokens
    least_logprob: float | None = None
    agreement: float | None = None  #: 0..1: does a second, cheap model's answer say the same?
    second_tokens: int | None = None  #: of that second answer
    quality: float | None = None  #: what the head said before there was an answer, 0..1
    figures: Figures | None = None  #: of the answer's tokens, as the watch saw them
    finish_reason: str | None = None
    expected_tokens: float | None = None  #: output tokens that were expected of this model on this prompt
    #: 0..1: of k short samples of the same model, the share of pairs that say the same
    sample_agreement: float | None = None

    @classmethod
    def of(
        cls,
        prompt: str | None,
        text: str | None,
        figures: Figures | None,
        finish_reason: str | None = None,
        *,
        output_tokens: int | None = None,
        expected_tokens: float | None = None,
        sample_agreement: float | None = None,
    ) -> "Evidence":
        """Of an answer that an engine made. `figures` of no token tell nothing; `output_tokens`: theirs, where None."""
        seen = figures if figures is not None and figures.tokens > 0 else None
        return cls(
            prompt=prompt, answer=text, figures=seen, finish_reason=finish_reason or None,
            output_tokens=seen.tokens if seen is not None and output_tokens is None else output_tokens,
            mean_logprob=None if seen is None else seen.mean_logprob,
            least_logprob=None if seen is None else seen.least_logprob,
            expected_tokens=expected_tokens, sample_agreement=sample_agreement,
        )  # fmt: skip


def measure(evidence: Evidence) -> dict[str, float]:
    """All numbers by name, in one fixed order; NaN: unknown."""
    prompt, answer = evidence.prompt, evidence.answer
    asked = words(prompt[-READ:]) if prompt is not None else []
    return {
        **dict(_statistics(evidence)),
        **_form(answer),
        **working(prompt, asked, answer),
        **_asked(prompt, frozenset(asked)),
    }


def words(text: str) -> list[str]:
    """In lower case, with `%`, `$` and simple fractions."""
    return _WORD.findall(text.lower())


def _statistics(at: Evidence) -> Iterator[tuple[str, float]]:
    chars = len(at.answer) if at.answer is not None else _known(at.output_tokens) * CHARS_A_TOKEN
    second = _known(at.second_tokens) * CHARS_A_TOKEN
    agreement, prior = _known(at.agreement), logit(_known(at.quality))
    yield from (("mean_logprob", _known(at.mean_logprob)), ("least_logprob", _known(at.least_logprob)))
    yield from (("agreement", agreement), ("prior", prior), ("agreement*prior", agreement * prior))
    for name, value in (("length", chars), ("second", second)):
        for knot in (1, *KNOTS):
            above = max(0.0, math.log(max(value, 1.0) / knot)) if value == value else UNKNOWN
            yield f"{name}>{knot}", above
            yield f"agreement*{name}>{knot}", agreement * above


def _form(answer: str | None) -> dict[str, float]:
    if answer is None:
        return dict.fromkeys(("lines", "repeated", "hedges", "algebra"), UNKNOWN)
    text = answer if len(answer) <= 2 * READ else answer[:READ] + answer[-READ:]
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    said = words(text)
    return {
        "lines": math.log1p(len(lines)),
        "repeated": 1 - len(set(lines)) / max(1, len(lines)),
        "hedges": math.log1p(sum(word in _HEDGES for word in said)),
        "algebra": float(not _ALGEBRA.isdisjoint(said)),
    }


def _asked(prompt: str | None, words: frozenset[str]) -> dict[str, float]:
    if prompt is None:
        return dict.fromkeys(("prompt", "sentences", *(f"asks {name}" for name in _ASKS)), UNKNOWN)
    return {
        "prompt": math.log1p(len(prompt)),
        "sentences": math.log1p(prompt[-READ:].count(".")),
        **{f"asks {name}": float(not meant.isdisjoint(words)) for name, meant in _ASKS.items()},
    }


def _known(value: float | None) -> float:
    return UNKNOWN if value is None else float(value)
