"""What the price bench makes of medians, of a config, and of other benches' results."""

import argparse
import json

import burst
import load_generator
import objective
import price
import price_pool
import pytest
import replicas
import simulate
import waiting
from price_loads import Asked, Held, Level

from router.learn.bench.plan import Slo


def test_slo_is_by_the_faster_of_the_large_models_settings_and_the_ramp_begins_at_one_request_at_a_time():
    idle = {
        "alone-1": {"ttft_p50_ms": 20.0, "tpot_p50_ms": 10.0, "e2e_p50_ms": 500.0},
        "alone-2": {"ttft_p50_ms": 30.0, "tpot_p50_ms": 8.0, "e2e_p50_ms": 400.0},
    }
    assert price.objective(idle, ["alone-1", "alone-2"]) == (Slo(ttft_ms=100.0, tpot_ms=24.0), 2.5)


def test_engines_of_a_config_have_one_price_no_fixed_rates_and_whole_paths(tmp_path):
    (tmp_path / "small").mkdir()
    (tmp_path / "pool.yaml").write_text(
        "pool: [{name: a, model: small, gpu_share: 0.2, prefill_tokens_per_s: 9,"
        " engine_args: {kv_cache_memory_bytes: 4}},"
        " {name: b, model: org/hub, env: {OMP_NUM_THREADS: '1', X: y}, engine_args: {kv_cache_memory_bytes: 8}}]\n"
        "routing: {checkpoint: r.safetensors, price: 3}\ncache: {entries: 0}\nserver: {port: 1}\n"
    )
    pool = price_pool.of_file(tmp_path / "pool.yaml", tmp_path, None, {"routing": {"price": 5}})
    small, large = pool.members
    one = {"distributed_executor_backend": price_pool.ONE_PROCESS}
    assert small == {"name": "a", "model": str(tmp_path / "small"), "usd_per_hour": 1.0, "gpu_share": 1.0,
                     "engine_args": {**one, "kv_cache_memory_bytes": 4}}  # fmt: skip
    assert large["model"] == "org/hub"
    assert pool.routing == {"checkpoint": str(tmp_path / "r.safetensors"), "price": 5}
    assert pool.branches == {"cache": {"entries": 0}}
    alone = price_pool.alone(pool, price_pool.Alone(2))
    assert alone["name"] == "alone-2"
    assert alone["engine_args"] == {**one, "kv_cache_memory_bytes": 12}
    assert alone["env"] == {"OMP_NUM_THREADS": "2", "X": "y"}
    two = price_pool.alone(pool, price_pool.Alone(1, 2))
    assert (two["name"], two["replicas"], two["engine_args"]["kv_cache_memory_bytes"]) == ("alone-1x2", 2, 6)
    drafted = price_pool.alone(pool, price_pool.Alone(1, drafted=3))["engine_args"]["speculative_config"]
    assert drafted == {"method": "draft_model", "model": small["model"], "num_speculative_tokens": 3}


def test_an_executor_that_the_config_names_is_kept_and_uni_stays_in_one_process(tmp_path):
    (tmp_path / "pool.yaml").write_text(
        "pool: [{name: a, model: m, engine_args: {distributed_executor_backend: mp}},"
        " {name: b, model: m, engine_args: {distributed_executor_backend: uni}}]"
    )
    pool = price_pool.of_file(tmp_path / "pool.yaml", tmp_path, None, {})
    found = [member["engine_args"]["distributed_executor_backend"] for member in pool.members]
    assert found == ["mp", price_pool.ONE_PROCESS]


def test_figures_of_other_benches_are_taken_with_their_goals_and_their_commands(tmp_path):
    told = {"bench": "queue", "queue_us": 0.4, "else": 1, "command": "python bench/queue.py", "commit": "c",
            "time": "t", "quick": False}  # fmt: skip
    (tmp_path / "queue.json").write_text(json.dumps(told, indent=2))
    figures, goals = price.folded([tmp_path / "queue.json"])
    assert figures["queue_us"] == 0.4
    assert "else" not in figures
    assert [goal.field for goal in goals] == ["queue_us"]
    assert figures["with"][0]["command"] == "python bench/queue.py"
    assert price.folded([]) == ({}, [])


@pytest.mark.parametrize("bench", [burst, load_generator, objective, replicas, simulate, waiting])
def test_every_goal_of_another_bench_is_taken_by_the_name_that_it_has_there(tmp_path, bench):
    told = {goal.field: goal.bound for goal in bench.GOALS}
    result = {"bench": "b", **told, "command": "c", "commit": "c", "time": "t", "quick": False}
    (tmp_path / "b.json").write_text(json.dumps(result))
    figures, goals = price.folded([tmp_path / "b.json"])
    assert figures.items() >= told.items()
    assert {goal.field: goal for goal in goals} == {goal.field: goal for goal in bench.GOALS}


@pytest.mark.parametrize("text", ["", "[]", '{"bench": "x"}'])
def test_a_file_that_is_no_result_of_a_bench_is_refused_by_name(tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(SystemExit, match=r"--with: .*x\.json: expected what a bench's --out writes"):
        price.folded([tmp_path / "x.json"])


def test_why_a_policy_holds_no_load_is_its_quality_or_its_slo():
    asked = Asked(Slo(ttft_ms=1.0), 0.95)
    assert price.why(Held((None,), (Level(2.0, 9, 1.0, 0.7),), True), asked) == (
        "at 2 requests/s its quality is 0.700 of the large model's"
    )
    assert "0.500 of the requests are within the SLO" in price.why(
        Held((None,), (Level(2.0, 9, 0.5, 1.0),), False), asked
    )
    assert price.why(Held((None,), (), False), asked) == "not measured"


@pytest.mark.parametrize("text", ["{", "[]", '{"routing": 1}'])
def test_config_that_is_no_object_of_branches_is_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected branches as in"):
        price._branches(text)


def test_threads_are_of_one_engine_or_of_each_of_several():
    assert price._threads("1,2,1x2,1") == [price_pool.Alone(1), price_pool.Alone(2), price_pool.Alone(1, 2)]
    assert [one.name for one in price._threads("1x2+3,2+1")] == ["alone-1x2-spec3", "alone-2-spec1"]


@pytest.mark.parametrize("text", ["0", "1,-2", "1x0", "x2", "1+0", ""])
def test_threads_below_1_are_refused(text):
    with pytest.raises(argparse.ArgumentTypeError, match="expected cores"):
        price._threads(text)


def test_a_missing_file_is_said_by_its_flag_before_an_engine_starts(tmp_path):
    (tmp_path / "pool.yaml").write_text("pool: [{name: a, model: m}]")
    parse = price.arguments().parse_args
    with pytest.raises(SystemExit, match=r"--pool: .*none\.yaml: no such file"):
        price.pool_of(parse(["--pool", str(tmp_path / "none.yaml")]))
    with pytest.raises(SystemExit, match=r"--workload: .*workload\.jsonl: no such file"):
        price.pool_of(parse(["--pool", str(tmp_path / "pool.yaml")]))
