"""The probe on the first token's logits finds what was planted, and owns up where there is nothing."""

import numpy as np
import pytest

from router.learn.verifier.probe import fit, probed


def test_logits_that_tell_are_used_and_the_probe_says_what_it_says() -> None:
    rng = np.random.default_rng(0)
    logits = rng.normal(-12, 2, (600, 20))
    right = (rng.random(600) < 1 / (1 + np.exp(-(logits[:, 3] + 12)))).astype(np.float64)
    found = probed(logits.tolist(), right, np.zeros(600), np.arange(600) % 4)
    assert found is not None
    assert found.gains
    assert found.auroc > 0.8 > found.prior_auroc == 0.5
    assert np.argmax(np.abs(found.probe.weights)) == 3
    assert found.probe.log_odds(logits, np.zeros(600)) == pytest.approx(found.probe.bias + logits @ found.probe.weights)


def test_noise_does_not_gain_over_the_prior() -> None:
    rng = np.random.default_rng(0)
    prior = rng.normal(size=600)
    right = (rng.random(600) < 1 / (1 + np.exp(-prior))).astype(np.float64)
    found = probed(rng.normal(size=(600, 64)).tolist(), right, prior, np.arange(600) % 4)
    assert found is not None
    assert not found.gains


def test_the_prior_has_a_weight_of_its_own() -> None:
    rng = np.random.default_rng(0)
    prior = rng.normal(size=1000)
    right = (rng.random(1000) < 1 / (1 + np.exp(-prior))).astype(np.float64)
    assert fit(rng.normal(size=(1000, 8)), right, prior, 100.0).prior == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize("first", [[[1.0, 2.0]] * 50, [[1.0]] * 150 + [[1.0, 2.0]] * 150, [[]] * 300])
def test_too_few_answers_or_logits_that_do_not_match_make_no_probe(first: list[list[float]]) -> None:
    right = np.arange(len(first)) % 2.0
    assert probed(first, right, 0 * right, np.arange(len(first)) % 4) is None
