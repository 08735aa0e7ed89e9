"""Figures of a run that is small enough to be counted by hand."""

import msgspec
import numpy as np
import pytest

from router.learn.bench.plan import Slo
from router.learn.simulate import figures, traffic
from router.learn.simulate.figures import holds
from router.learn.simulate.pool import Engine, Group, Known, Law, Model, Pool
from router.learn.simulate.run import Outcome, simulate


def pool(**fields: int) -> Pool:
    engine = Engine(model=0, law=Law(step_s=0.1), known=Known(usd_per_s=1.0, overhead_s=0.02), most_running=1)
    made = Pool(
        models=(Model(name="only", group=0, engine=engine),),
        groups=(Group(members=("only",), devices=2, usd_per_hour=7.2),),
    )
    return msgspec.structs.replace(made, **fields)


def outcome(**fields: int) -> Outcome:
    """Twenty requests of two steps each, one a second; at 10 s there are three, and none in the next two seconds."""
    at_s = np.array([*range(11), 10, 10, *range(13, 20)], np.float64)
    at_s.sort()
    size = len(at_s)
    score = np.full((size, 1), 0.5)
    quality = np.ones((size, 1))
    asked = traffic.made(
        "made up", ("only",), at_s, np.full(size, 5, np.int32), np.full(size, 2, np.int32), score, quality
    )
    return simulate(pool(**fields), asked)


def test_times_count_from_the_arrival_with_the_overhead_and_the_wait_for_a_slot() -> None:
    found = outcome()
    together = found.first_s[10:13]
    assert together == pytest.approx([0.12, 0.32, 0.52])
    assert found.total_s[0] == pytest.approx(0.22)
    assert figures.tpot_s(found) == pytest.approx(np.full(20, 0.1))
    told = figures.of([found], "only", Slo(ttft_ms=400), price=0.0)
    # The first two seconds are warm-up: of 18 requests one is later than 400 ms.
    assert told.figures["slo_share"].value == pytest.approx(17 / 18)
    assert told.figures["ttft_p50_ms"].value == pytest.approx(120)
    assert told.figures["usd"].value == pytest.approx(7.2 / 3600 * found.seconds)
    assert told.figures["in_flight_most"].value == 3
    assert told.members[0].busy == pytest.approx(20 * 0.2 / found.seconds)
    assert holds(told, 0.9, None)
    assert not holds(told, 0.95, None)


def test_what_is_refused_has_a_quality_of_nothing_and_is_not_within_the_slo() -> None:
    found = outcome(in_flight=1, places=0)
    told = figures.of([found], "only", Slo(ttft_ms=1_000), price=0.0)
    assert told.refused == {"gate_full": 2}
    assert told.figures["quality"].value == pytest.approx(16 / 18)
    assert told.figures["quality_ratio"].value == pytest.approx(16 / 18)
    assert told.figures["slo_share"].value == pytest.approx(16 / 18)
    assert not holds(told, 0.95, None)


def test_over_several_seeds_a_figure_is_the_mean_between_its_ends() -> None:
    few, many = outcome(), outcome(in_flight=1, places=0)
    told = figures.of([few, many], "only", None, price=0.0).figures["answered_share"]
    assert (told.low, told.value, told.high) == pytest.approx((16 / 18, 17 / 18, 1.0))
