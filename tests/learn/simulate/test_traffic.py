"""What is drawn has the rate, the lengths and the quality that were asked for."""

import numpy as np
import pytest

from router.errors import ConfigError
from router.learn.bench.arrivals import Arrivals, Burst
from router.learn.simulate import quality, traffic
from router.learn.simulate.pool import Engine, Group, Known, Law, Model, Pool
from router.learn.simulate.run import simulate
from router.learn.simulate.study import for_members


def test_a_ramp_has_the_rate_of_each_moment() -> None:
    at_s = traffic.moments(Arrivals(poisson=False), 10.0, 100.0, 0, ramp_to=50.0)
    assert len(at_s) == 3_000
    assert (np.diff(at_s) > 0).all()
    # 10 t + 0.2 t^2 requests have come by t.
    for t in (20.0, 50.0, 90.0):
        assert np.searchsorted(at_s, t) == pytest.approx(10 * t + 0.2 * t * t, abs=1)


def test_a_ramp_that_falls_ends_within_its_time() -> None:
    at_s = traffic.moments(Arrivals(), 50.0, 100.0, 1, ramp_to=10.0)
    assert len(at_s) == pytest.approx(3_000, rel=0.1)
    assert at_s[-1] < 100.0
    assert np.searchsorted(at_s, 50.0) == pytest.approx(2_000, rel=0.1)


def test_bursts_are_those_of_the_bench() -> None:
    at_s = traffic.moments(Arrivals(burst=Burst(5.0, 10.0, 60.0)), 10.0, 600.0, 0)
    inside = (at_s % 60.0) >= 50.0
    assert inside.sum() == pytest.approx(10 * 10 * 50, rel=0.1)


@pytest.mark.parametrize("spread", [0.0, 0.5, 2.0])
def test_lengths_have_their_mean_and_spread(spread: float) -> None:
    drawn = traffic.lengths(300.0, spread, 200_000, np.random.default_rng(0))
    assert drawn.mean() == pytest.approx(300, rel=0.03)
    assert drawn.std() / drawn.mean() == pytest.approx(spread, abs=0.15)
    assert drawn.min() >= 1


def test_drawn_qualities_have_their_means_are_calibrated_and_hard_for_all_alike() -> None:
    found = quality.drawn({"small": 0.6, "large": 0.9}, ("small", "large"), 50_000, np.random.default_rng(0))
    assert found.quality is not None
    assert found.score.mean(axis=0) == pytest.approx([0.6, 0.9], abs=0.002)
    assert found.quality.mean(axis=0) == pytest.approx([0.6, 0.9], abs=0.01)
    sure = found.score[:, 0] > 0.8
    assert found.quality[sure, 0].mean() == pytest.approx(found.score[sure, 0].mean(), abs=0.01)
    assert np.corrcoef(found.score.T)[0, 1] > 0.5


def test_a_smaller_pools_quality_is_still_held_against_the_best_member_of_the_whole() -> None:
    engine = Engine(model=0, law=Law(step_s=0.01), known=Known(usd_per_s=1.0))
    models = tuple(Model(name=name, group=i, engine=engine) for i, name in enumerate(("small", "large")))
    groups = tuple(Group(members=(model.name,), devices=1, usd_per_hour=1.0) for model in models)
    score = np.array([[0.25, 0.5]] * 10)
    asked = traffic.made(
        "made up", ("small", "large"), np.arange(10.0), np.full(10, 5, np.int32), np.full(10, 5, np.int32), score
    )
    alone = Pool(models=models[:1], groups=groups[:1])
    found = simulate(alone, for_members(asked, alone))
    assert found.answered.all()
    assert (found.traffic.true_quality.mean() / found.traffic.best_quality.mean()) == 0.5
    with pytest.raises(ConfigError, match="expected traffic for small, got it for small, large"):
        simulate(alone, asked)


@pytest.mark.parametrize("size", [0, traffic.MOST + 1])
def test_nothing_and_too_much_are_refused(size: int) -> None:
    none = np.zeros(0, np.int32)
    with pytest.raises(ConfigError, match=f"expected 1 to {traffic.MOST} requests, got {size}"):
        traffic.made("made up", ("a",), np.broadcast_to(0.0, size), none, none, np.zeros((0, 1)))
