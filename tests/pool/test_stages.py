"""How far a start is, by the log of a real engine (vLLM 0.32.0 on a CPU, shortened), and by earlier starts."""

import time
from pathlib import Path

import pytest

from router.ipc.spec import HostSpec
from router.pool.stages import Stages
from router.pool.timings import Timings, key_of

#: Seconds of the start, and what was written then.
LOG = (
    (0.0, "Triton is installed, but doesn't include CPU backend. Disabling Triton.\n"),
    (23.0, "(MainProcess pid=1) INFO 11-30 11:26:17 [model.py:733] Resolved architecture: LlamaForCausalLM\n"),
    (23.5, "(MainProcess pid=1) INFO 11-30 11:26:17 [async_llm.py:152] AsyncLLM created with log_stats=False\n"),
    (38.0, "(EngineCore pid=2) INFO 11-30 11:26:32 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config\n"),
    (51.0, "(Worker pid=3) INFO 11-30 11:26:45 [cpu_model_runner.py:68] Starting to load model small...\n"),
    (51.5, "\nLoading safetensors checkpoint shards:   0% Completed | 0/2 [00:00<?, ?it/s]\n\rLoading safetensors"),
    (56.0, " checkpoint shards:  50% Completed | 1/2 [00:00<00:00, 317.89it/s]\n"),
    (61.0, "(Worker pid=3) INFO 11-30 11:26:46 [default_loader.py:501] Loading weights took 10.00 seconds\n"),
    (62.0, "(EngineCore pid=2) INFO 11-30 11:26:48 [kv_cache_utils.py:2327] CPU KV cache size: 65,536 tokens\n"),
    (63.0, "(EngineCore pid=2) INFO 11-30 11:26:48 [core.py:402] init engine (profile, create kv cache) took 2 s\n"),
    (65.0, "headgate-host: INFO warming up\nheadgate-host: INFO warmed up in 5.0 s\n"),
)  # fmt: skip
NAMES = [
    "importing vLLM", "configuring", "starting the engine", "starting workers", "loading weights", "loading weights",
    "loading weights", "measuring memory", "compiling", "opening the API", "warming up",
]  # fmt: skip


def followed(stages: Stages, until_s: float) -> None:
    for at_s, text in LOG:
        if at_s <= until_s:
            stages.read(text, at_s)


def test_every_line_that_begins_a_stage_is_known_and_the_per_cent_never_falls() -> None:
    stages, seen, percents = Stages(0.0, {}), [], []
    for at_s, text in LOG:
        stages.read(text, at_s)
        seen.append(stages.stage)
        percents.append(stages.progress(at_s).percent)
    assert seen == NAMES
    assert percents == sorted(percents)
    assert percents[0] == 0
    assert percents[-1] < 100


def test_a_first_start_knows_no_time_left_and_counts_the_weights_that_are_loaded() -> None:
    stages = Stages(0.0, {})
    followed(stages, 51.5)
    before = stages.progress(52.0)
    followed(stages, 56.0)
    now = stages.progress(56.0)
    assert (before.left_s, now.left_s) == (None, None)
    assert now.percent - before.percent == 12  # half of the stage's 25


def test_a_start_like_an_earlier_one_tells_the_time_left() -> None:
    first = Stages(0.0, {})
    followed(first, 70.0)
    earlier = first.ended(70.0)
    assert sum(earlier.values()) == pytest.approx(70.0)
    assert earlier["loading weights"] == pytest.approx(10.0)
    again = Stages(0.0, earlier)
    assert again.progress(7.0).percent == 10
    assert again.progress(7.0).left_s == pytest.approx(63.0)
    # A stage that takes longer than it did does not use up those to come.
    assert again.progress(500.0).left_s == pytest.approx(47.0)
    followed(again, 51.0)
    assert again.progress(55.0).left_s == pytest.approx(15.0)
    followed(again, 70.0)
    assert (again.progress(900.0).percent, again.progress(900.0).left_s) == (99, 0.0)


def test_an_earlier_stage_told_late_changes_nothing() -> None:
    stages = Stages(0.0, {})
    followed(stages, 51.0)
    stages.read("x Resolved architecture: Another\n", 52.0)
    assert stages.stage == "loading weights"


@pytest.mark.parametrize(
    "noise", ["x" * 1_000_000, "\r" * 100_000, "checkpoint shards: 999% Completed\n", "\0\ufffd\n"]
)
def test_noise_in_a_log_is_no_stage(noise: str) -> None:
    stages = Stages(0.0, {})
    stages.read(noise, 1.0)
    assert stages.progress(1.0).percent == 0
    assert len(stages._rest) <= 4_096
    assert stages.ended(1.0) == {}


def test_timings_are_kept_by_model_and_arguments_and_the_oldest_forgotten(tmp_path: Path) -> None:
    timings = Timings(tmp_path / "cache")
    small = HostSpec(name="a", model="m", socket="s", engine_args={"dtype": "float32"})
    alike = HostSpec(name="b", model="m", socket="t", engine_args={"dtype": "float32"})
    other = HostSpec(name="a", model="m", socket="s", engine_args={"dtype": "bfloat16"})
    assert key_of(small) == key_of(alike) != key_of(other)
    assert timings.of(key_of(small)) == {}
    timings.keep(key_of(small), {"loading weights": 1.234})
    assert Timings(tmp_path / "cache").of(key_of(alike)) == {"loading weights": 1.23}
    for i in range(200):
        timings.keep(str(i), {"x": 1.0})
    assert timings.of(key_of(small)) == {}
    assert timings.of("199") == {"x": 1.0}
    assert (tmp_path / "cache" / "starts.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("content", [b"", b"[]", b'{"a": 1}', b'{"a": {"x": -1}}', b'{"a": {"x": 1e99}}', b"\xff" * 10])
def test_a_spoilt_file_of_timings_counts_as_none_and_is_replaced(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "starts.json").write_bytes(content)
    timings = Timings(tmp_path)
    assert timings.of("a") == {}
    timings.keep("b", {"x": 2.0})
    assert timings.of("b") == {"x": 2.0}


def test_where_nothing_can_be_kept_starts_go_on(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for timings in (Timings(None), Timings(tmp_path / "file")):
        timings.keep("a", {"x": 1.0})
        assert timings.of("a") == {}


@pytest.mark.parametrize("digits", [4, 5_000])
def test_a_per_cent_of_very_many_digits_is_none(digits: int) -> None:
    stages = Stages(0.0, {})
    followed(stages, 51.5)
    before = stages.progress(52.0)
    stages.read(f" checkpoint shards:  {'9' * digits}% Completed\n", 52.0)
    assert stages.progress(52.0) == before


def test_a_long_line_without_a_per_cent_is_read_in_its_length_not_in_its_square() -> None:
    stages = Stages(0.0, {})
    followed(stages, 62.0)
    begun_s = time.process_time()
    stages.read("Capturing CUDA graphs" * 10_000 + "\n", 62.5)
    assert time.process_time() - begun_s < 5  # of its square some 25 s
    assert stages.stage == "compiling"
