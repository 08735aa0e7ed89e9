"""The price bench's arithmetic: which load a policy holds, by SLO and by quality, and how two loads compare."""

import msgspec
import price_loads
import pytest
from price_loads import Asked, Held, Ramp

from router.learn.bench.plan import Slo
from router.learn.bench.rows import Cell, Row

SLO = Slo(ttft_ms=100.0)
ASKED = Asked(SLO, quality=0.95)
RATES = (1.0, 2.0, 4.0)


def row(policy, level, number, *, round=0, ttft_ms=50, score=1.0, fault="", warm=False):
    return Row(
        round=round, level=level, policy=policy, number=number, item=number, at_s=number / 10, ttft_us=ttft_ms * 1000,
        e2e_us=ttft_ms * 1000, score=score, fault=fault, warm=warm,
    )  # fmt: skip


def cell(policy, level, *, round=0, engine_s=0.0, cut=False):
    seconds = {"engine": engine_s} if engine_s else {}
    return Cell(round=round, level=level, policy=policy, wall_s=2, from_s=0, to_s=2, engine_s=seconds, cut=cut)


def ramp(rows, *, cells=None, rounds=1):
    turns = sorted({(each.policy, each.level, each.round) for each in rows})
    return Ramp(RATES, rounds, tuple(rows), tuple(cells or (cell(p, n, round=r) for p, n, r in turns)))


def turn(policy, level, count=10, **given):
    return [row(policy, level, number, **given) for number in range(count)]


def load(made, policy="auto", asked=ASKED):
    return price_loads.held(made, policy, asked, dict.fromkeys(range(10), 1.0)).load


def test_load_is_the_highest_rate_within_the_slo_below_which_none_is_missed():
    late = [row("auto", 1, 0, ttft_ms=101)]
    assert load(ramp([*turn("auto", 0), *turn("auto", 1), *turn("auto", 2)])) == 4
    assert load(ramp([*turn("auto", 0), *turn("auto", 1), *turn("auto", 2, ttft_ms=101)])) == 2
    assert load(ramp([*turn("auto", 0), *late, *turn("auto", 2)])) == 1


def test_a_share_of_late_requests_up_to_attain_is_held_and_warm_up_does_not_count():
    rows = [*turn("auto", 0, 99), row("auto", 0, 99, ttft_ms=500)]
    assert load(ramp(rows)) == 1
    assert load(ramp([*rows[1:], row("auto", 0, 0, ttft_ms=500)])) is None
    assert load(ramp([*turn("auto", 0), row("auto", 0, 10, ttft_ms=500, warm=True)])) == 1


def test_a_rate_whose_answers_are_worse_than_asked_is_not_held_though_within_the_slo():
    bad = [row("auto", 1, 0, score=0.0)]
    assert load(ramp([*turn("auto", 0), *bad, *turn("auto", 1)[1:]])) == 1
    assert load(ramp([*turn("auto", 0), *bad, *turn("auto", 1)[1:]]), asked=ASKED._replace(quality=0.0)) == 2


def test_quality_is_over_the_references_on_the_same_questions_and_lost_answers_are_bad_ones():
    reference = {0: 1.0, 1: 0.0, 2: 1.0}
    rows = [row("auto", 0, 0), row("auto", 0, 1, score=0.0), row("auto", 0, 7, score=0.0)]
    assert price_loads.quality(rows, reference) == 1.0
    assert price_loads.quality([*rows, row("auto", 0, 2, score=0.0, fault="timeout")], reference) == 0.5
    assert price_loads.quality([row("auto", 0, 7)], reference) is None


def test_grades_of_the_reference_are_means_without_lost_answers():
    rows = [row("large", 0, 0), row("large", 1, 0, score=0.0), row("large", 1, 1, score=0.0, fault="cut")]
    assert price_loads.grades(ramp(rows), "large") == {0: 0.5}


def test_a_turn_that_was_cut_ends_the_ramp_of_its_round():
    rows = [*turn("auto", 0), *turn("auto", 1)]
    assert load(ramp(rows, cells=[cell("auto", 0), cell("auto", 1, cut=True)])) == 1


def test_ratios_are_of_the_same_round_and_their_rounds_without_a_load_are_left_out():
    ours, theirs = Held((4.0, None, 2.0), (), False), Held((2.0, 1.0, None), (), False)
    found = price_loads.ratio(ours, theirs)
    assert found is not None
    assert found["runs"] == [2.0, 0.0]
    assert price_loads.ratio(ours, Held((None, None, None), (), False)) is None


def test_load_of_rounds_is_their_median_and_a_ramp_that_nobody_missed_is_at_its_top():
    rounds = [turn("auto", 0, round=0), turn("auto", 0, round=1), turn("auto", 1, round=1), turn("auto", 0, round=2)]
    made = ramp([one for of in rounds for one in of], rounds=3)
    found = price_loads.held(made, "auto", ASKED, dict.fromkeys(range(10), 1.0))
    assert (found.by_round, found.load, found.at_top) == ((1.0, 2.0, 1.0), 1.0, False)
    top = ramp([*turn("auto", 0), *turn("auto", 1), *turn("auto", 2)])
    assert price_loads.held(top, "auto", ASKED, {0: 1.0}).at_top


def test_engine_seconds_of_a_good_answer_count_bad_and_lost_answers_as_work_for_nothing():
    rows = [row("auto", 0, 0), row("auto", 0, 1, score=0.0), row("auto", 0, 2, fault="timeout"), row("auto", 0, 3)]
    assert price_loads.seconds_a_good_answer(ramp(rows, cells=[cell("auto", 0, engine_s=3.0)]), "auto") == [1.5]
    assert price_loads.seconds_a_good_answer(ramp(rows, cells=[cell("auto", 0)]), "auto") == [None]


def test_a_ramp_is_read_from_the_folder_that_headgate_bench_leaves(tmp_path):
    rows, cells = turn("auto", 0), [cell("auto", 0)]
    (tmp_path / "run.json").write_text('{"levels": [{"name": "1/s", "rate": 1.0}], "rounds": 2}')
    for name, of in (("requests", rows), ("cells", cells)):
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(msgspec.json.encode(one) + b"\n" for one in of))
    assert Ramp.of(tmp_path) == Ramp((1.0,), 2, tuple(rows), tuple(cells))


@pytest.mark.parametrize("told", [{"load": 2.0, "at_top": True}])
def test_what_is_told_of_a_policy_has_its_levels(told):
    found = Held((2.0,), (price_loads.Level(2.0, 10, 0.99999, None),), True).told()
    assert {key: found[key] for key in told} == told
    assert found["levels"] == [{"rate": 2.0, "requests": 10, "slo_share": 1.0, "quality": None}]
