"""Figures of rows whose truth is known: rates, times, quality, dollars, ratios, the front."""

import numpy as np
import pytest

from router.learn.bench import results, static
from router.learn.bench.arrivals import Arrivals
from router.learn.bench.figures import Estimate
from router.learn.bench.generator import Ask
from router.learn.bench.plan import Level, Plan, Slo, turns
from router.learn.bench.policies import Endpoint, Policy, PoolMember, Price, target
from router.learn.bench.rows import Cell, Folder, Row
from router.learn.bench.workload import Item, Turn, Workload

AT = Endpoint(url="http://127.0.0.1:1")
SMALL, LARGE = PoolMember(name="small", usd_per_hour=3.6), PoolMember(name="large", usd_per_hour=36.0)
ITEMS = tuple(Item(id=str(i), turns=(Turn("user", "q"),), expected="1", grader="number") for i in range(10))


def policy(member, **fields):
    return Policy(name=member.name, endpoint=AT, models=(member.name,), members=(member,), **fields)


def plan(**fields):
    settled = {
        "policies": (policy(SMALL), policy(LARGE)), "workload": Workload(items=ITEMS),
        "levels": (Level(name="10/s", rate=10.0),), "arrivals": Arrivals(poisson=False), "seconds": 10.0,
        "warmup_s": 2.0, "rounds": 2, "ask": Ask(max_tokens=8), "slo": Slo(ttft_ms=100.0, tpot_ms=20.0),
    }  # fmt: skip
    return Plan(**(settled | fields))


def rows_of(one, name, *, ttft_us=50_000, gap_us=10_000, tokens=11, score=lambda number: 1.0, **fields):
    return [
        Row(
            round=round, level=0, policy=name, number=number, item=planned.item, at_s=planned.at_s, warm=planned.warm,
            model=name, status=200, ttft_us=ttft_us, gaps_us=[gap_us] * (tokens - 1),
            e2e_us=ttft_us + gap_us * (tokens - 1), output_tokens=tokens, input_tokens=4, score=score(number), **fields,
        )
        for round in range(one.rounds)
        for number, planned in enumerate(one.cell(round, 0))
    ]  # fmt: skip


def found_of(tmp_path, one, sides, **options):
    """`sides`: of each policy its rows and, of each cell, the engine's seconds."""
    folder = Folder(tmp_path / "run", one.fingerprint())
    for name, (rows, engine_s) in sides.items():
        for round in range(one.rounds):
            cell = Cell(
                round=round, level=0, policy=name, wall_s=13.0, from_s=2.0, to_s=12.0, own_cpu_s=0.012,
                engine_s={name: engine_s} if engine_s else {},
            )  # fmt: skip
            folder.end_cell([row for row in rows if row.round == round], cell)
    folder.close()
    settled = {"command": "headgate bench", "workload": "w", "against": "", "draws": 100}
    return results.found(one, folder, **(settled | options))


def test_figures_are_those_of_the_rows_to_the_last_percent(tmp_path):
    one = plan()
    small = rows_of(one, "small", score=lambda number: float(number % 2))
    large = rows_of(one, "large", ttft_us=120_000, gap_us=15_000)
    found = found_of(tmp_path, one, {"small": (small, 12.0), "large": (large, 24.0)})
    a, b = found.measured
    value = {name: estimate.value for name, estimate in a.figures.items()}
    assert a.requests == 200
    assert value["requests_per_s"] == pytest.approx(10.0, rel=0.01)
    assert value["output_tokens_per_s"] == pytest.approx(110.0, rel=0.01)
    assert value["goodput_per_s"] == value["requests_per_s"]
    assert (value["ttft_p50_ms"], value["tpot_p95_ms"], value["itl_p99_ms"]) == (50.0, 10.0, 10.0)
    assert (value["e2e_p50_ms"], value["slo_share"], value["error_share"]) == (150.0, 1.0, 0.0)
    assert value["quality"] == pytest.approx(0.5, abs=0.01)
    assert a.figures["quality"].low < 0.5 < a.figures["quality"].high
    assert value["engine_s_per_request"] == pytest.approx(24.0 / 240)
    assert found.basis == "engine"
    assert value["usd_per_million_tokens"] == pytest.approx(24.0 * 3.6 / 3600 / (240 * 11) * 1e6)
    assert value["usd_per_thousand_good"] == pytest.approx(24.0 * 3.6 / 3600 / 120 * 1e3)
    assert b.figures["slo_share"].value == 0.0
    assert (a.holds, b.holds) == (True, False)
    assert a.own_cpu_us == pytest.approx(100.0)
    assert found.best_constant == "large"
    assert a.ratios["quality"].value == pytest.approx(0.5, abs=0.01)
    assert a.ratios["ttft_p95_ms"] == Estimate(50 / 120, 50 / 120, 50 / 120)
    assert {one.policy: one.front for one in found.loaded} == {"small": True, "large": True}


def test_faults_are_counted_by_kind_and_are_in_no_time_and_no_throughput(tmp_path):
    one = plan(policies=(policy(SMALL),), slo=None)
    rows = rows_of(one, "small")
    failed = [
        Row(**{f: getattr(row, f) for f in ("round", "level", "policy", "number", "item", "at_s", "warm")},
            fault="cut" if row.number % 2 else "limited", e2e_us=1, score=0.0)
        for row in rows if row.number >= 70
    ]  # fmt: skip
    kept = [row for row in rows if row.number < 70]
    (found,) = found_of(tmp_path, one, {"small": (kept + failed, 0.0)}).measured
    assert found.faults == {"cut": 50, "limited": 50}
    assert found.figures["error_share"].value == 0.5
    assert found.figures["quality"].value == 0.5
    assert found.figures["ttft_p99_ms"].value == 50.0
    assert found.figures["requests_per_s"].value == pytest.approx(5.0, abs=0.2)


def test_dollars_are_by_one_rule_for_all_and_by_rent_where_engine_seconds_are_not_known_of_all(tmp_path):
    one = plan()
    sides = {"small": (rows_of(one, "small"), 12.0), "large": (rows_of(one, "large"), 0.0)}
    found = found_of(tmp_path, one, sides)
    assert found.basis == "rent"
    assert found.measured[0].figures["usd_per_thousand_good"].value == pytest.approx(26.0 * 3.6 / 3600 / 240 * 1e3)
    assert any("Engine seconds are not known of every policy" in caveat for caveat in found.caveats)


def test_list_prices_of_a_foreign_endpoint_count_prompt_and_answer(tmp_path):
    foreign = target("far=http://127.0.0.1:1,usd-per-million=1/10")
    one = plan(policies=(foreign,))
    (found,) = found_of(tmp_path, one, {"far": (rows_of(one, "far"), 0.0)}).measured
    assert found.figures["usd_per_million_tokens"].value == pytest.approx((4 * 1 + 11 * 10) / 11)


def test_without_any_price_there_are_no_dollars(tmp_path):
    one = plan(policies=(target("far=http://127.0.0.1:1"),))
    (found,) = found_of(tmp_path, one, {"far": (rows_of(one, "far"), 0.0)}).measured
    assert not [name for name in found.figures if name.startswith("usd")]


def test_what_must_be_known_before_a_figure_is_believed_is_told(tmp_path):
    one = plan(policies=(policy(SMALL), policy(LARGE)))
    rows = rows_of(one, "small", late_us=30_000, counted=True, ungraded="no grade within 1 s")
    caveats = "\n".join(found_of(tmp_path, one, {"small": (rows, 1.0)}).caveats)
    assert "2 of the plan's turns have not been measured" in caveats
    assert "up to 30 ms late" in caveats
    assert "No usage was sent by small" in caveats
    assert "The grader failed on 200 answers" in caveats


def test_the_front_is_of_quality_throughput_and_dollars_together():
    def loaded(name, quality, throughput, usd):
        return results.Loaded(
            policy=name, level="1/s", held="1/s", throughput=Estimate(throughput), quality=Estimate(quality),
            usd=Estimate(usd),
        )  # fmt: skip

    found = results.front(
        [loaded("a", 0.9, 5, 2), loaded("b", 0.5, 9, 1), loaded("c", 0.5, 8, 1), loaded("d", 0.9, 5, 3)]
    )
    assert {one.policy: one.front for one in found} == {"a": True, "b": True, "c": False, "d": False}


def test_policies_take_turns_in_being_first_and_share_moments_and_questions():
    one = plan(arrivals=Arrivals())
    assert [turns(one.policies, round, 0)[0].name for round in range(2)] == ["small", "large"]
    assert one.cell(0, 0) == one.cell(0, 0)
    assert one.cell(0, 0) != one.cell(1, 0)
    first = [planned.item for planned in one.cell(0, 0)[:10]]
    assert sorted(first) == list(range(10))


def test_what_is_told_of_a_run_is_no_secret_and_changes_with_what_is_measured():
    key = plan(policies=(policy(SMALL), target("far=http://user:pw@127.0.0.1:1")))
    assert b"pw" not in key.fingerprint()
    assert plan().fingerprint() == plan().fingerprint()
    assert plan().fingerprint() != plan(seed=1).fingerprint()
    assert plan().fingerprint() == plan(slo=None).fingerprint()  # figures alone hang on it


def test_the_static_threshold_is_the_highest_that_keeps_the_quality_asked_for():
    win = np.array([0.9, 0.8, 0.3, 0.2])
    weak, strong = np.array([0.0, 0.0, 1.0, 1.0]), np.ones(4)
    assert static.threshold(win, weak, strong, 0.95) == 0.8
    assert static.threshold(win, weak, strong, 0.7) == 0.9
    assert static.threshold(win, weak, strong, 0.5) == 2.0
    assert static.threshold(np.full(4, 0.5), weak, strong, 0.7) == 0.5  # equal win rates go together


def test_a_folds_threshold_is_tuned_on_the_others():
    win = np.array([0.9, 0.1, 0.9, 0.1])
    weak, strong = np.array([0.0, 1.0, 1.0, 1.0]), np.ones(4)
    found = static.tuned(win, weak, strong, np.array([0, 0, 1, 1]), 0.95)
    assert found == {0: 2.0, 1: 0.9}


def test_prices_that_are_none_are_refused():
    assert target("a=http://h,usd-hour=2").price == Price(usd_per_hour=2.0)
    engines = target("a=http://h,usd-hour=2,pid=7+9").members
    assert [(one.name, one.pid, one.usd_per_hour) for one in engines] == [("a", 7, 2.0), ("a-1", 9, 2.0)]
