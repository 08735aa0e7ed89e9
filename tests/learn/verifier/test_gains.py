"""What changing one's mind is worth, on prompts whose best course is known."""

import msgspec
import numpy as np
import pytest

from router.learn.verifier.gains import Pair, Played, areas, before, cascade, expected_most, first, gains, handoff


def pair(count: int = 800, *, knows: bool, seed: int = 0) -> Pair:
    """The small model is right half the time and the prior cannot tell when; its answer can where `knows`. The large
    one is always right, at ten times the cost. Wrong answers are twice as long."""
    rng = np.random.default_rng(seed)
    right = (rng.random(count) < 0.5).astype(np.float64)
    tokens = np.where(right > 0.5, 10.0, 20.0)
    even = np.full(count, 0.5)
    seen = np.where(right > 0.5, 0.95, 0.05) if knows else even
    running = np.where(tokens[:, None] > np.array([[5.0, 12.0]]), np.stack([seen, seen], axis=1), np.nan)
    return Pair(
        small_right=right, large_right=np.ones(count), small_prior=even, large_prior=np.full(count, 0.99),
        small_cost=tokens, large_cost=np.full(count, 150.0), small_tokens=tokens, prompt_tokens=np.full(count, 20.0),
        judged=seen, knots=(5.0, 12.0), running=running, left=(9.0, 8.0), first=seen,
    )  # fmt: skip


def test_evidence_that_knows_gains_by_every_way() -> None:
    found = gains(pair(knows=True))
    assert set(found) == {"cascade", "handoff", "first"}
    assert all(gain.low > 0.05 for gain in found.values())
    assert found["first"].mean > found["handoff"].mean > found["cascade"].mean  # the earlier the cheaper
    assert found["cascade"].told == found["cascade"].mean


def test_evidence_that_knows_nothing_gains_nothing_and_is_off() -> None:
    assert {way: gain.told for way, gain in gains(pair(knows=False)).items()} == dict.fromkeys(
        ("cascade", "handoff", "first"), 0.0
    )


def test_ways_of_which_nothing_is_known_are_not_measured() -> None:
    bare = msgspec.structs.replace(pair(knows=True), knots=(), left=(), running=np.zeros((800, 0)), first=None)
    assert set(gains(bare)) == {"cascade"}
    with pytest.raises(ValueError, match="first: expected what the first token's logits say, got none"):
        first(bare)


def test_a_high_price_keeps_the_small_model_and_a_low_one_takes_the_large() -> None:
    at = pair(knows=True)
    for play in (before, cascade, handoff, first):
        played = play(at)
        assert played.cost[-1].mean() == pytest.approx(at.small_cost.mean(), rel=0.1)
        assert played.quality[0].mean() > 0.97


def test_a_draft_given_up_costs_both_answers() -> None:
    at = pair(knows=True)
    played = cascade(at)
    wrong = at.small_right == 0
    drafted = played.cost[:, wrong] > at.large_cost[wrong]
    assert drafted.any()
    assert set(played.cost[:, wrong][drafted].tolist()) == {170.0}


def test_areas_by_hand() -> None:
    """Half of the cost for all of the quality: half of the area is at 1, the other half on the line from 0 to 1."""
    at = msgspec.structs.replace(
        pair(2, knows=False), small_right=np.zeros(2), large_right=np.ones(2), small_cost=np.zeros(2),
        large_cost=np.ones(2),
    )  # fmt: skip
    played = Played(np.ones((1, 2)), np.full((1, 2), 0.5))
    assert areas(at, played, np.full((1, 2), 0.5)) == pytest.approx([0.75], abs=0.01)


def test_the_expected_greater_of_a_normal_and_a_number() -> None:
    rng = np.random.default_rng(0)
    drawn = np.maximum(rng.normal(0.4, 0.2, 400_000), 0.5).mean()
    assert expected_most(np.array(0.4), np.array(0.5), 0.2) == pytest.approx(drawn, abs=2e-3)
    assert expected_most(np.array(0.4), np.array(0.5), 0.0) == 0.5
