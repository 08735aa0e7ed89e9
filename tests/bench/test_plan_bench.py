"""The bench of plans: costs as they are told, knobs that reach both ends, a drawn world in which the plan must win."""

import argparse
import math
from pathlib import Path

import msgspec
import numpy as np
import plan
import plan_policies as policies
import plan_tables as tables
import pytest


def drawn(count: int = 900, seed: int = 0) -> tables.Table:
    """Judged as is right: each label is drawn by what is thought of it. Half of the answers tell a lot."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0.3, 0.8, count)
    judged = np.clip(small + rng.choice([-1, 1], count) * np.minimum(small, 1 - small) * 0.8, 0.01, 0.99)
    large = np.clip(small + rng.uniform(0.0, 0.4, count), 0, 0.97)
    labels = [(rng.random(count) < chance).astype(np.float64) for chance in (judged, large)]
    tokens = rng.integers(20, 300, count).astype(np.float64)
    return tables.Table("drawn", small, large, judged, *labels, tokens, 160.0, 0.0, np.arange(count) % 5)


@pytest.fixture(scope="module")
def world() -> tables.Table:
    return drawn()


@pytest.mark.parametrize("name", [*plan.BASELINES, "plan"])
def test_every_policy_goes_from_the_small_model_alone_to_no_less_than_the_large_one(
    world: tables.Table, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "KNOBS", 5)
    curve = (plan.BASELINES | plan.OURS)[name](world)
    cheapest, dearest = curve.cost.mean(1).argmin(), curve.cost.mean(1).argmax()
    if name != "length":
        assert curve.quality[cheapest].mean() == pytest.approx(world.right.mean(), abs=0.02)
        assert curve.cost[cheapest].mean() == pytest.approx(world.tokens.mean(), rel=0.02)
    assert curve.quality[dearest].mean() >= world.large_right.mean() - 0.02


def test_a_draft_that_is_handed_over_is_paid_as_far_as_it_went_and_read_by_the_large_model(world: tables.Table) -> None:
    world = msgspec.structs.replace(world, draft_cost=7.0)
    all_, none = np.ones(len(world.tokens), np.bool_), np.zeros(len(world.tokens), np.bool_)
    made = np.minimum(world.tokens, 50.0)
    half = policies.drafted(world, world.tokens > 50, made).cost[0]
    over = world.tokens > 50
    assert half[over] == pytest.approx(50 + 5 * 160 + 0.25 * 50)
    assert half[~over] == pytest.approx(world.tokens[~over] + 7)
    assert policies.drafted(world, none).cost[0] == pytest.approx(world.tokens + 7)
    assert policies.drafted(world, all_).cost[0] == pytest.approx(world.tokens + 7 + 800)
    assert policies.drafted(world, all_, 0 * made).cost[0] == pytest.approx(800)


def test_a_curve_mixes_neighbouring_knobs_and_weighs_prompts() -> None:
    curve = policies.Curve(np.array([[1.0, 1.0], [0.0, 1.0]]), np.array([[4.0, 4.0], [0.0, 2.0]]))
    assert curve.at(np.array([1.0, 2.5, 4.0])).tolist() == [0.5, 0.75, 1.0]
    assert curve.at(np.array([2.0]), np.array([0, 3])).tolist() == [1.0]


def test_a_knob_that_others_mixed_surpass_does_not_count() -> None:
    cost, quality = np.array([3.0, 1.0, 2.0, 1.0, 4.0, 5.0]), np.array([0.9, 0.1, 0.2, 0.3, 0.7, 0.9])
    assert policies.hull(cost, quality) == ([1.0, 3.0], [0.3, 0.9])


def test_in_a_world_that_is_as_it_thinks_the_plan_is_above_router_cascade_and_length(
    world: tables.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "KNOBS", 24)
    found, shown = plan.compare(world, 40)
    assert found["lead"] > 0.005
    assert found["worst_gap"] > -0.02
    assert set(shown) == {*plan.BASELINES, *plan.OURS}
    assert found["spread"] == pytest.approx(float(np.std(world.judged - world.small)), abs=0.05)


def test_a_watched_answer_is_handed_over_at_the_first_token_below_its_bound(
    world: tables.Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    traces = tuple(np.full(int(n), -0.5) for n in world.tokens)
    watched = msgspec.structs.replace(world, traces=traces)
    fit = world.fitted(0)

    class Bound:
        def knots(self) -> list[tuple[float, float]]:
            return [(10.0, -1.0), (30.0, 0.0)]

    monkeypatch.setattr(policies, "_running", lambda *told: Bound())
    i = int(np.flatnonzero(world.tokens > 40)[0])
    # The bound, straight from -1 at 10 tokens to 0 at 30, passes -.5 at 20.
    assert policies._stopped(watched, fit, i, 1.0) == 21
    assert policies._stopped(world, fit, i, 1.0) == 10


def test_the_moving_mean_is_the_plain_mean_at_first_and_weighs_a_sixteenth_then() -> None:
    found = tables.moving(np.arange(20.0))
    assert found[:16] == pytest.approx(np.arange(16) / 2)
    assert found[16] == pytest.approx(7.5 + (16 - 7.5) / 16)


def test_a_line_is_found_and_calibration_takes_back_what_was_said_too_loudly() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=4000)
    y = (rng.random(4000) < 1 / (1 + np.exp(-(0.5 + 2 * x)))).astype(np.float64)
    assert tables.line(np.stack([np.ones(4000), x], 1), y) == pytest.approx([0.5, 2.0], abs=0.2)
    loud = msgspec.structs.replace(drawn(), small=np.clip(0.5 + 2 * (drawn().small - 0.5), 0.02, 0.98))
    told = tables.calibrated(loud)
    assert np.mean((told.small - told.right) ** 2) < np.mean((loud.small - loud.right) ** 2)
    assert tables.calibrated(msgspec.structs.replace(loud, large=np.full(900, 0.9))).large.tolist() == [0.9] * 900


def test_the_band_around_many_levels_is_wider_than_around_one() -> None:
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(2000, 30))
    assert plan.band(np.zeros(30), noise) > plan.band(np.zeros(1), noise[:, :1]) == pytest.approx(1.96, abs=0.1)
    assert plan.band(np.zeros(3), np.zeros((5, 3))) == 0.0


def test_the_figures_hold_the_least_gap_of_all_tables_and_a_picture_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(policies, "KNOBS", 4)
    monkeypatch.setattr(plan, "TABLES", {"one": lambda *told: drawn(200), "two": lambda *told: drawn(200, 1)})
    args = argparse.Namespace(
        quick=True, runs=1, only=None, data=tmp_path, most=100, picture=tmp_path / "deep" / "p.png"
    )
    found = plan.measure(args)
    assert found["worst_gap"] == min(found["one_worst_gap"], found["two_worst_gap"])
    assert found["worst_gap_and_noise"] <= found["worst_gap"] + max(found["one_noise"], found["two_noise"]) + 1e-4
    assert 0 < found["plan_us"] < 1e5
    assert 0 < found["boundary_us"] < 1e6
    assert (tmp_path / "deep" / "p.png").stat().st_size > 1000
    assert not math.isnan(found["one_lead"])
