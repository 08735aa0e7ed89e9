"""Dials against brute force and against the policy itself; shares, budgets and qualities by hand."""

import itertools
import math

import numpy as np
import pytest

from router.learn.tune import operating_point as op
from router.learn.tune.operating_point import Terms
from router.native.policy import win_rate
from router.policy import Settings, decide
from router.types import MemberState, Query, Scores, Snapshot, Turn


def drawn(prompts: int, members: int, seed: int = 0, *, closed: float = 0.0, steps: int = 0) -> Terms:
    """`steps`: qualities on a grid, so that there are ties."""
    rng = np.random.default_rng(seed)
    quality = rng.beta(2, 2, (prompts, members)) * 0.98 + 0.01
    if steps:
        quality = np.round(quality * steps) / steps * 0.98 + 0.01
    cost = np.sort(rng.gamma(2, 1e-4, (prompts, members)), axis=1)
    cost[:, -1] = cost[:, -2] if steps else cost[:, -1]
    open_ = rng.random((prompts, members)) >= closed
    open_[:, 0] = True
    rates = np.array([win_rate(q[-1], q[0]) for q in quality])
    return Terms(quality, cost, open_, np.where(open_[:, -1], rates, np.nan))


#: Two members, costs 1 and 3 thousandths of a dollar: prompts change at lambda 150, 50 and never.
HAND = Terms(
    np.array([[0.5, 0.8], [0.6, 0.7], [0.9, 0.4]]),
    np.array([[0.001, 0.003]] * 3),
    np.ones((3, 2), bool),
    np.array([0.8, 0.6, 0.1]),
)


def test_prices_by_hand() -> None:
    dial = op.price_dial(HAND, 1)
    assert dial.steps == pytest.approx([50, 150])
    assert dial.shares() == pytest.approx([2 / 3, 1 / 3, 0])
    assert dial.value(0) == 0
    assert dial.point(0).usd_per_1k == pytest.approx((1 + 3 + 3) / 3)
    assert dial.point(0).quality == pytest.approx((0.8 + 0.7 + 0.9) / 3)
    assert dial.point(1).shares == pytest.approx((2 / 3, 1 / 3))
    assert dial.point(1).dial == 100
    assert dial.point(2).dial == 300


def test_asks_by_hand() -> None:
    dial = op.price_dial(HAND, 1)
    assert op.for_share(dial, 0.35) == 1
    assert op.for_share(dial, 0.66) == 0
    assert op.for_share(dial, 0.7) is None
    assert op.for_budget(dial, 1.7) == 1
    assert op.for_budget(dial, 10) == 0
    assert op.for_budget(dial, 0.9) is None
    assert op.for_quality(dial, 0.79) == 0
    assert op.for_quality(dial, 0.7) == 1
    assert op.for_quality(dial, 0.1) == 2
    assert op.for_quality(dial, 0.81) is None


def test_a_threshold_of_less_than_a_half_only_serves_a_share() -> None:
    dial = op.threshold_dial(HAND, 1, 0, 0.0)
    assert dial.shares() == pytest.approx([1, 2 / 3, 1 / 3, 0])
    assert op.for_share(dial, 0.95) == 0
    assert op.for_budget(dial, 99) == 1  # not 0, which pays for the third prompt and loses quality by it
    assert op.for_quality(dial, 0.7) == 2


@pytest.mark.parametrize("members", [2, 3, 5])
@pytest.mark.parametrize(("closed", "steps"), [(0.0, 0), (0.3, 0), (0.0, 4), (0.3, 4)])
def test_stretches_are_what_the_choice_says(members: int, closed: float, steps: int) -> None:
    terms = drawn(40, members, closed=closed, steps=steps)
    for dial in (op.price_dial(terms, members - 1), op.threshold_dial(terms, members - 1, 0, 700.0)):
        points = [dial.point(stretch) for stretch in range(dial.stretches)]
        assert [point.shares[-1] for point in points] == pytest.approx(dial.shares().tolist())
        assert all(0 <= point.dial < math.inf for point in points)
    dial = op.price_dial(terms, members - 1)
    points = [dial.point(stretch) for stretch in range(dial.stretches)]
    assert all(a.usd_per_1k >= b.usd_per_1k - 1e-12 for a, b in itertools.pairwise(points))
    assert all(a.quality >= b.quality - 1e-12 for a, b in itertools.pairwise(points))


def test_the_share_of_a_member_in_the_middle_rises_and_falls() -> None:
    terms = drawn(400, 3)
    shares = op.price_dial(terms, 1).shares()
    assert shares[0] < shares.max() > shares[-1]
    assert shares[op.for_share(op.price_dial(terms, 1), float(shares.max()))] == shares.max()


def test_chooses_as_the_policy_does() -> None:
    """On the very numbers that the policy itself has told."""
    rng = np.random.default_rng(1)
    pool = Snapshot(tuple(MemberState(name=n, usd_per_s=usd) for n, usd in (("a", 2e-4), ("b", 2e-4), ("c", 9e-4))))
    query = Query(kind="chat", model="auto", turns=(Turn("user", "x"),))
    scores = [Scores(tuple(np.round(rng.random(3), 1)), int(n)) for n in rng.integers(1, 900, 200)]
    told = [decide(query, one, pool, Settings(price=0.0)).terms for one in scores]
    terms = Terms(
        np.array([[t.quality for t in one] for one in told]),
        np.array([[t.cost_usd for t in one] for one in told]),
        np.ones((200, 3), bool),
        np.array([win_rate(one[2].quality, one[0].quality) for one in told]),
    )
    price, threshold = op.price_dial(terms, 2), op.threshold_dial(terms, 2, 0, 0.0)
    for stretch in range(0, price.stretches, 7):
        settings = Settings(price=price.value(stretch))
        assert [decide(query, one, pool, settings).member for one in scores] == price.choose(settings.price).tolist()
    for stretch in range(0, threshold.stretches, 3):
        settings = Settings(rule="threshold", threshold=threshold.value(stretch), strong=2, weak=0)
        found = threshold.choose(settings.threshold).tolist()
        assert [decide(query, one, pool, settings).member for one in scores] == found


@pytest.mark.parametrize(("low", "high", "expected"), [(3.1, 3.9, 3.5), (99.0, 301.0, 200.0), (7.0, math.inf, 10.0)])
def test_between_is_short(low: float, high: float, expected: float) -> None:
    assert op.between(low, high) == expected


def test_between_neighbours_is_still_between() -> None:
    low = 123.45678901
    assert low < op.between(low, low + 1e-9) < low + 1e-9


def test_wilson_by_hand() -> None:
    assert op.wilson(0.3, 100) == pytest.approx((0.2189, 0.3958), abs=1e-4)
    assert op.wilson(0.0, 50) == (0, pytest.approx(0.0713, abs=1e-4))


def test_share_errors_are_small_where_folds_are_alike() -> None:
    rng = np.random.default_rng(2)
    errors = op.share_errors(rng.normal(size=10_000), rng.integers(0, 5, 10_000))
    assert len(errors) == 4
    assert max(errors) < 1


def test_share_errors_by_hand() -> None:
    """Fold 1 lies above fold 0 wholly: its threshold sends nothing of fold 0, fold 0's sends all of fold 1."""
    preference = np.array([1.0, 2, 3, 4, 11, 12, 13, 14, np.nan, 99])
    folds = np.array([0, 0, 0, 0, 1, 1, 1, 1, 0, -1])
    assert op.share_errors(preference, folds, (0.5, 0.25)) == pytest.approx((0, 25))


def test_share_errors_tell_a_tie() -> None:
    """All alike: all or nothing is sent."""
    assert op.share_errors(np.zeros(10), np.arange(10) % 2, (0.3,)) == pytest.approx((30,))


@pytest.mark.parametrize("share", [0.1, 0.333, 0.5, 0.9])
def test_thresholds_are_routellms(share: float) -> None:
    """RouteLLM takes the win rates' quantile at 1 - share (its `calibrate_threshold.py`) and sends what reaches it to
    the strong model: the same prompts, but for the one at the edge."""
    terms = drawn(501, 2)
    dial = op.threshold_dial(terms, 1, 0, 0.0)
    stretch = op.for_share(dial, share)
    assert stretch is not None
    ours = dial.choose(dial.value(stretch)) == 1
    theirs = terms.win_rate >= np.quantile(terms.win_rate, 1 - share)
    assert (ours != theirs).sum() <= 1


@pytest.mark.parametrize("prompts", [2, 3, 10, 100, 10_000])
@pytest.mark.parametrize("kind", ["zeros", "ones", "ends", "sure", "even", "skewed"])
def test_the_interval_of_a_mean_quality_lies_within_its_bounds(prompts: int, kind: str) -> None:
    rng = np.random.default_rng(prompts)
    values = {
        "zeros": np.zeros(prompts),
        "ones": np.ones(prompts),
        "ends": np.arange(prompts) % 2.0,
        "sure": np.full(prompts, 0.999),
        "even": rng.random(prompts),
        "skewed": rng.beta(0.1, 3, prompts),
    }[kind]
    found = op.share_interval(values)
    assert found is not None
    low, high = found
    assert 0 <= low <= values.mean() <= high <= 1
    assert high - low > 1 / prompts  # few alike are not sure of others
    assert prompts < 1000 or high - low < 0.02


def test_of_many_values_the_interval_is_the_normal_one() -> None:
    values = np.random.default_rng(0).beta(5, 2, 4000)
    half = 1.96 * values.std() / math.sqrt(4000)
    assert op.share_interval(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=5e-4)


def test_dollars_are_not_below_nought() -> None:
    found = op.mean_interval(np.array([0.0, 0.01]))
    assert found is not None
    assert found[0] == 0
    assert found[1] == pytest.approx(0.005 + 1.96 * 0.005)


def test_one_prompt_has_no_interval() -> None:
    assert op.wilson(1.0, 1) is None
    assert op.share_interval(np.ones(1)) is None
    assert op.mean_interval(np.ones(1)) is None
