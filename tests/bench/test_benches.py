"""Each bench runs end to end in its quick mode and ends with the fields that the figures are read from."""

import json
import shutil
import subprocess
import sys

import pytest
import upstream

from tests.conftest import WORK_S


def run(root, name, *arguments):
    command = [sys.executable, str(root / "bench" / name), "--quick", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORK_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def is_spread(value):
    return value["min"] <= value["median"] <= value["max"] and value["runs"]


@pytest.mark.skipif(bool(upstream.missing_tools()), reason=upstream.missing_tools() or "nginx and wrk are here")
def test_overhead(root):
    result = run(root, "overhead.py", "--peers", "")
    assert 0 < result["headgate_cpu_us"] < 1e6
    assert 0 < result["headgate_full_cpu_us"] < 1e6
    assert result["ratio"] is result["ratio_full"] is None
    assert result["peers"] == {}
    assert is_spread(result["headgate"]["cpu_us"])
    assert is_spread(result["headgate_full"]["cpu_us"])
    assert sum(result["answered_by"].values()) == 64
    assert result["journal_missing"] == 0
    assert result["journal_records"] > 64
    assert result["native_share_full"] == 1


def test_streaming(root):
    result = run(root, "streaming.py")
    assert result["cpu_us_per_token"] > 0
    assert result["lost"] == result["lost_any_level"] == 0
    assert is_spread(result["streams"]["512"]["cpu_us"])
    assert result["streams"]["512"]["tokens"]["median"] == 2 * 512 * 32
    assert result["instructions_ratio"] is None


def test_after_one_500_of_one_member_the_native_share_of_the_others_requests_is_1(root):
    result = run(root, "native_share.py")
    assert result["native_share"] == 1
    assert result["requests"] == 200
    assert result["steps"] == dict.fromkeys(("head", "body", "admit", "score", "decide", "frame", "pass_on", "end"), 1)


def test_rules_tells_microseconds_by_signal(root):
    result = run(root, "rules.py")
    assert 0 < result["header_us"] < result["personal_us"] < 1e6


@pytest.mark.engine
def test_logprobs_count(root):
    pytest.importorskip("vllm")
    result = run(root, "logprobs_count.py")
    for rows in (8, 64):
        assert is_spread(result[f"compiled_{rows}_ms"])
        assert is_spread(result[f"uncompiled_{rows}_ms"])


def test_batch_lane(root):
    result = run(root, "batch_lane.py")
    assert is_spread(result["alone"]["ttft_p95_ms"])
    assert is_spread(result["beside"]["ttft_p95_ms"])
    assert result["added_steps"] < 100
    assert result["lines_done_beside"] > 0


def test_waiting(root):
    result = run(root, "waiting.py")
    assert 0 < result["queue_us"] < 1_000
    assert result["rounds_us"]["min"] <= result["queue_us"] <= result["rounds_us"]["max"]
    assert result["sorted_list_us"] > result["queue_us"]


def test_burst(root):
    result = run(root, "burst.py")
    assert result["burst_unended"] == result["burst_starved"] == 0
    assert result["runs"][0]["answered"] == result["runs"][0]["clients"] > 50


def test_loss(root):
    result = run(root, "loss.py")
    assert result["loss_stop_ms"] > 0
    assert result["streams"] == 100
    for kind in ("begun", "begun_ordinary", "waiting"):
        assert is_spread(result["kinds"][kind]["stop_ms"])


def test_memory(root):
    result = run(root, "memory.py")
    assert 10 < result["rss_mb"] < 200
    assert abs(result["growth_mb"]) < 50
    assert result["requests"] == 2_000
    assert result["ended"] == {
        "answer": 1200,
        "stream": 400,
        "left": 160,
        "malformed": 60,
        "unknown model": 60,
        "unknown route": 60,
        "engine error": 60,
    }


def test_journal(root):
    result = run(root, "journal.py")
    assert result["journal_missing"] == result["feedback_missing"] == result["readers_failed"] == 0
    assert result["journal_missing_ticks"] <= 1
    for mode in ("tick", "record"):
        of = result["modes"][mode]
        assert (of["kills"], of["answers"] >= 400, of["feedback"] > 0) == (2, True, True)
        assert is_spread(of["tick_ms"])


@pytest.mark.engine
def test_handover(root):
    pytest.importorskip("vllm")
    result = run(root, "handover.py")
    assert result["trials"] == 2
    for figure in ("handover_ms", "cold_ms", "step_ms", "wall_ms"):
        assert result[figure] > 0
    assert is_spread(result["spread"]["warm_ms"])
    assert result["uncached_tokens"] < result["spread"]["cold_uncached"]["median"]


@pytest.mark.engine
def test_engine(root):
    result = run(root, "engine.py")
    for field in ("cpu_ratio_request", "cpu_ratio_token", "rps_ratio", "ttft_p50_ratio", "ttft_p99_ratio"):
        assert result[field] > 0
    for server in ("vllm", "headgate"):
        assert is_spread(result["servers"][server]["cpu_us_request"])
    assert result["target"] == "small"


def test_load_generator(root):
    """Every request is answered as the stub says it did; how long that took hangs on the machine."""
    result = run(root, "load_generator.py", "--rate", "50", "--streams", "10")
    assert result["bench_us"] > 0
    assert result["one_token"][0]["requests"] > 50
    assert result["many_tokens"][0]["e2e_ms"] > -1  # a client sees no answer before its end


def test_price(root):
    """Stubs that are right on half of the questions, or on all; how much load each holds hangs on the machine."""
    result = run(root, "price.py")
    assert result["slo_ttft_ms"] > 0
    assert result["idle"]["small"]["quality"] < result["idle"]["large"]["quality"]
    assert set(result["policies"]) == {"auto", "static", "jsq", "alone-1"}
    for policy in result["policies"].values():
        assert policy["levels"][0]["requests"] > 0
        assert 0 <= policy["levels"][0]["slo_share"] <= 1
    assert result["policies"]["jsq"]["levels"][0]["quality"] < 1
    for key in ("load_vs_large", "load_vs_static", "load_vs_jsq"):
        assert key in result
    if result["load_auto"] is not None:
        assert result["half_rate"] == result["load_auto"] / 2
        assert result["dollars_vs_large"] is None or is_spread(result["dollars_vs_large_rounds"])


def test_simulate(root):
    """As many requests were served as simulated; how near the figures are hangs on the machine too."""
    result = run(root, "simulate.py")
    assert result["sim_per_s"] > 0
    for load in ("routed", "overload"):
        (found,) = result[load]
        assert found["requests"] > 20
        assert found["simulated"]["large_share"] == pytest.approx(found["real"]["large_share"], abs=0.2)
        assert found["simulated"]["ttft_p95_ms"] > 20


def test_help_says_what_each_is_for(root):
    for name in (
        "overhead.py",
        "streaming.py",
        "memory.py",
        "loss.py",
        "native_share.py",
        "journal.py",
        "load_generator.py",
        "simulate.py",
        "engine.py",
        "price.py",
        "judge.py",
        "gpu/drive.py",
    ):
        command = [sys.executable, str(root / "bench" / name), "--help"]
        said = subprocess.run(command, capture_output=True, text=True, timeout=WORK_S, check=True).stdout
        assert "--quick" in said
        assert "--runs" in said


def test_the_gpu_run_says_what_is_missing(root):
    bash = shutil.which("bash")
    assert bash is not None
    script = [bash, str(root / "bench" / "gpu" / "run.sh")]
    done = subprocess.run(script, capture_output=True, text=True, env={"PYTHON": "/nowhere", "PATH": "/usr/bin:/bin"})
    assert done.returncode == 2
    assert "no Python at /nowhere" in done.stderr


def test_classifier(root, shared_data):
    result = run(root, "classifier.py", "--data", str(shared_data / "routellm_pairs.parquet"))
    assert 0 < result["score_ms_20"] < result["score_ms_250"]
    assert 0.3 < result["tuned_apgr"] < 1
    assert result["frozen_train_s"] > 0
    assert "mf_apgr" not in result


def test_embedding(root):
    result = run(root, "embedding.py")
    assert is_spread(result["embed_200"])
    assert 0 < result["embed_200_us"] < 1e6
    assert 0 < result["file_mb"] <= 8
