"""When a second model is worth asking, against cases worked by hand."""

import numpy as np
import pytest
from second_opinion import Gains, always, choose

from router.learn.evaluate import metrics


def gains(alone: list[float], agree: list[float], differ: list[float], told: list[float]) -> Gains:
    return Gains(*(np.array(part, np.float64) for part in (alone, agree, differ, told)))


def test_chance_of_agreement_is_what_the_expectations_imply() -> None:
    made = gains([0.3, 0.5, 0.2, 0.9], [0.1, 0.5, 0.4, 0.1], [0.5, 0.5, 0.6, 0.5], [0, 0, 0, 0])
    assert made.chance.tolist() == pytest.approx([0.5, 0.5, 1.0, 0.0])


def test_asked_only_where_the_answer_may_turn_the_choice() -> None:
    """At a price of 0.3, the first prompt is torn, the second is lost anyway, the third is won anyway."""
    made = gains([0.3, 0.0, 0.9], [0.0, 0.0, 0.85], [0.6, 0.02, 0.95], [0.6, 0.0, 0.95])
    chosen = choose(made, cost=0.1, prices=201)
    at = int(np.argmin(np.abs(np.quantile(np.r_[made.alone, made.told], np.linspace(1, 0, 201)) - 0.3))) + 1
    assert chosen.second[at].tolist() == [True, False, False]
    assert chosen.strong[at].tolist() == [True, False, True]


def test_a_dear_second_model_is_never_asked_and_the_curve_is_the_prompts_own() -> None:
    rng = np.random.default_rng(0)
    weak = (rng.random(500) < 0.5).astype(np.float32)
    strong = (rng.random(500) < 0.8).astype(np.float32)
    alone = rng.uniform(0.3, 0.9, 500)
    chosen = choose(Gains(alone, alone - 0.2, alone + 0.2, alone), cost=5.0)
    assert not chosen.second.any()
    assert chosen.curve(weak, strong).apgr == pytest.approx(metrics.curve(weak, strong, alone).apgr, abs=0.01)


def test_a_free_second_model_gives_the_curve_of_what_it_tells() -> None:
    rng = np.random.default_rng(1)
    weak = (rng.random(500) < 0.5).astype(np.float32)
    strong = (rng.random(500) < 0.8).astype(np.float32)
    told = np.where(weak > 0.5, 0.1, 0.7) + rng.normal(0, 0.2, 500)
    made = Gains(np.full(500, 0.4), np.full(500, 0.1), np.full(500, 0.7), told)
    expected = metrics.curve(weak, strong, told).apgr
    assert always(made, 0.0).curve(weak, strong).apgr == pytest.approx(expected, abs=0.01)
    dear = always(made, 0.1).curve(weak, strong)
    assert dear.apgr < expected - 0.05
    assert dear.pgr[0] == 0
    assert dear.pgr[-1] == pytest.approx(1)


def test_counts_are_repeated_prompts() -> None:
    weak, strong = np.array([0, 1, 0, 1.0]), np.array([1, 1, 0, 1.0])
    made = gains([0.5, 0.1, 0.3, 0.2], [0.4, 0, 0.2, 0.1], [0.6, 0.2, 0.4, 0.3], [0.6, 0, 0.4, 0.1])
    counts = np.array([2, 0, 1, 1])
    rows = np.repeat(np.arange(4), counts)
    chosen = choose(made, 0.05)
    taken = type(chosen)(chosen.strong[:, rows], chosen.second[:, rows], chosen.cost)
    assert chosen.curve(weak, strong, counts).pgr == pytest.approx(taken.curve(weak[rows], strong[rows]).pgr)
