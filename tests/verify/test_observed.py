"""The numbers of an answer that a judge weighs."""

import math

import pytest

from router.verify.evidence import Evidence
from router.verify.observed import OBSERVED, observed, repeated
from router.watched import Figures

FIGURES = Figures(
    tokens=20, mean_logprob=-0.5, least_logprob=-3.0, recent_logprob=-0.75, mean_entropy=0.5, recent_entropy=0.625,
    mean_margin=2.0, least_margin=0.25, recent_margin=1.5, first_logprob=-0.125, first_entropy=0.375,
)  # fmt: skip


def named(evidence: Evidence, prior: float | None = None, typical: float = 10.0) -> dict[str, float]:
    return dict(zip(OBSERVED, observed(evidence, prior, typical), strict=True))


def test_figures_length_and_prior_are_read_into_their_numbers() -> None:
    seen = Evidence.of("p", "a b c d", FIGURES, "length", expected_tokens=40.0, sample_agreement=0.25)
    expected = {
        "tokens": math.log(2), "excess": math.log(0.5), "cut": 1, "mean_logprob": -math.log(0.51),
        "least_logprob": -math.log(3.01), "recent_logprob": -math.log(0.76), "surprise": math.log(11),
        "mean_entropy": math.log(0.51), "recent_entropy": math.log(0.635), "mean_margin": math.log(2.01),
        "least_margin": math.log(0.26), "recent_margin": math.log(1.51), "first_logprob": -math.log(0.135),
        "first_entropy": math.log(0.385),
        "repeated": 0, "sample_agreement": 0.25, "prior": math.log(3),
    }  # fmt: skip
    found = named(seen, 0.75)
    assert {name: found[name] for name in expected} == pytest.approx(expected)
    assert math.isnan(found["agreement"])


def test_no_evidence_is_all_unknown() -> None:
    assert all(map(math.isnan, observed(Evidence(), None, 10.0)))


def test_figures_of_no_token_tell_nothing() -> None:
    seen = Evidence.of("p", "some answer", Figures(), "stop")
    assert (seen.figures, seen.mean_logprob, seen.output_tokens) == (None, None, None)
    assert math.isnan(named(seen)["mean_logprob"])
    assert named(seen)["cut"] == 0


def test_means_without_figures_are_used_and_the_rest_stays_unknown() -> None:
    found = named(Evidence(output_tokens=20, mean_logprob=-0.5))
    assert (found["mean_logprob"], found["surprise"]) == pytest.approx((-math.log(0.51), math.log(11)))
    assert math.isnan(found["least_logprob"])
    assert math.isnan(found["recent_margin"])


@pytest.mark.parametrize(
    ("answer", "share"), [("", 0.0), ("a b", 0.0), ("a b c d", 0.0), ("a b c a b c", 0.25), ("x " * 50, 47 / 48)]
)
def test_repeated_is_the_share_of_runs_of_three_words_that_stood_before(answer: str, share: float) -> None:
    assert repeated(answer) == pytest.approx(share)
