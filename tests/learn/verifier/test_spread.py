"""Spread and correlation: from drawn worlds whose numbers are known, and where there is too little to know."""

import math

import numpy as np
import pytest

from router.learn.verifier.spread import correlation, spread


def worlds(rho: float, count: int = 40_000) -> tuple[np.ndarray, ...]:  # type: ignore[type-arg]
    """Priors, what is thought once both answers are seen (deviations .15 and .1, correlated by rho), and labels."""
    rng = np.random.default_rng(1)
    common, own, other = rng.standard_normal((3, count))
    prior, second_prior = rng.uniform(0.45, 0.55, count), rng.uniform(0.5, 0.6, count)
    first = prior + 0.15 * (math.sqrt(rho) * common + math.sqrt(1 - rho) * own)
    second = second_prior + 0.1 * (math.sqrt(rho) * common + math.sqrt(1 - rho) * other)
    labels, second_labels = (rng.random(count) < chance for chance in (first, second))
    return prior, first, labels, second_prior, second, second_labels


def test_the_spread_of_a_posterior_that_is_right_about_itself_is_its_deviation() -> None:
    prior, posterior, right, *_ = worlds(0.0)
    assert spread(prior, posterior, right) == pytest.approx(0.15, abs=0.01)


def test_a_posterior_that_says_more_than_it_knows_is_counted_by_what_it_knows() -> None:
    prior, posterior, right, *_ = worlds(0.0)
    noise = np.random.default_rng(2).permutation(posterior)
    assert spread(prior, noise, right) == pytest.approx(0.0, abs=0.01)
    assert spread(prior, prior + 2 * (posterior - prior), right) == pytest.approx(0.15, abs=0.01)
    assert spread(prior, prior - (posterior - prior), right) == 0.0


@pytest.mark.parametrize("rho", [0.0, 0.3, 0.8])
def test_the_correlation_is_found_from_the_other_models_labels_and_from_its_posteriors(rho: float) -> None:
    prior, posterior, _, second_prior, second, labels = worlds(rho)
    assert correlation(prior, posterior, second_prior, labels, 0.1) == pytest.approx(rho, abs=0.06)
    assert correlation(prior, posterior, second_prior, second, 0.1) == pytest.approx(rho, abs=0.02)


def test_a_correlation_against_the_model_is_none() -> None:
    prior, posterior, _, second_prior, second, _ = worlds(0.8)
    assert correlation(prior, posterior, second_prior, 2 * second_prior - second, 0.1) == 0.0


def test_rows_that_lack_a_number_are_left_out_and_too_few_tell_nothing() -> None:
    prior, posterior, right, *_ = worlds(0.0, 200)
    holes = posterior.copy()
    holes[::2] = np.nan
    assert spread(prior, holes, right) == spread(prior[1::2], posterior[1::2], right[1::2])
    assert math.isnan(spread(prior[:10], posterior[:10], right[:10]))
    assert math.isnan(correlation(prior, posterior, prior, right, 0.0))
    assert spread(prior, prior, right) == 0.0


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected columns of one length, got shapes \[\(2,\), \(1,\), \(2,\)\]"):
        spread([0.1, 0.2], [0.1], [1.0, 0.0])
