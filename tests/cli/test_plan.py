"""`headgate plan`: table, JSON, a copy of the config, refusals. Devices are told; no engine is started."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from router import config as configuration
from router.cli.main import main
from router.cli.plan_write import edited
from router.config import document
from router.errors import ConfigError

PAIR = Path(__file__).resolve().parents[2] / "examples" / "pair"
Capture = pytest.CaptureFixture[str]


@pytest.fixture
def config(tmp_path: Path) -> Callable[[str], Path]:
    def write(args: str = "") -> Path:
        path = tmp_path / "headgate.yaml"
        path.write_text(
            "# two of them\npool:\n"
            f"  - name: small  # the first\n    model: {PAIR / 'small'}\n{args}"
            f"  - {{name: large, model: {PAIR / 'large'}, strength: 0.5}}\n"
        )
        return path

    return write


def test_a_pool_that_fits_is_a_table_with_each_number_s_reason(config: Callable[[str], Path], capsys: Capture) -> None:
    assert main(["plan", str(config("")), "--device-memory", "24GiB", "--concurrency", "40"]) == 0
    text = capsys.readouterr().out
    assert "for requests of 1000 + 250 tokens, 40 at once" in text
    assert "all fit" in text
    assert "KV cache 512 bytes a token: 2 layers of 2 KV heads of 32" in text
    assert "engine_args: kv_cache_memory_bytes: " in text


def test_json_is_one_object(config: Callable[[str], Path], capsys: Capture) -> None:
    assert main(["plan", str(config("")), "--device-memory", "24GiB", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["fits"] is True
    assert [engine["name"] for engine in told["engines"]] == ["small", "large"]
    assert told["devices"][0]["memory_bytes"] == 24 << 30


def test_what_does_not_fit_exits_1_and_writes_nothing(
    config: Callable[[str], Path], tmp_path: Path, capsys: Capture
) -> None:
    copy = tmp_path / "copy.yaml"
    assert main(["plan", str(config("")), "--device-memory", "1GiB", "--write", str(copy)]) == 1
    assert "they do not fit: '" in capsys.readouterr().out
    assert not copy.exists()


@pytest.mark.parametrize(
    "args", ["", "    engine_args: {dtype: float32}\n", "    engine_args:\n      dtype: float32\n"]
)
def test_write_puts_the_arguments_into_a_copy_and_leaves_all_else(
    config: Callable[[str], Path], tmp_path: Path, args: str, capsys: Capture
) -> None:
    source, copy = config(args), tmp_path / "copy.yaml"
    before = source.read_bytes()
    assert main(["plan", str(source), "--device-memory", "24GiB", "--write", str(copy)]) == 0
    assert source.read_bytes() == before
    assert "# two of them" in copy.read_text()
    assert "# the first" in copy.read_text()
    for member in configuration.load(copy).pool:
        assert member.engine_args["kv_cache_memory_bytes"] > 1 << 30
        assert member.devices == (0,)
    assert main(["plan", str(copy), "--device-memory", "24GiB"]) == 0
    assert "set by `kv_cache_memory_bytes`" in capsys.readouterr().out


def test_a_file_that_cannot_be_edited_safely_is_refused() -> None:
    text = "pool:\n  - &a {name: a, model: m}\n  - <<: *a\n    name: b\n"
    assert document.read(edited(text, {"b": {"engine_args": {"x": 1}}}))["pool"][1]["engine_args"] == {"x": 1}
    with pytest.raises(ConfigError, match="cannot be edited safely: put the planned `engine_args` in by hand"):
        edited(text, {"a": {"engine_args": {"x": 1}}})


def test_models_without_a_config_are_planned_too(capsys: Capture) -> None:
    argv = ["plan", "--model", str(PAIR / "small"), "--model", str(PAIR / "large"), "--device-memory", "24GB"]
    assert main([*argv, "--devices", "2", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [engine["name"] for engine in told["engines"]] == ["small", "large"]
    assert [device["memory_bytes"] for device in told["devices"]] == [24 * 10**9] * 2


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        ([], "expected a config file, or --model MODEL"),
        (["--model", "m", "--write", "x"], "--write makes a copy of a config file: give one"),
        (["--model", "m", "--devices", "2"], "--devices counts devices that are told: give --device-memory, too"),
        (["--model", "m", "--prompt-tokens", "-5"], "--prompt-tokens: expected 0 to 1,000,000,000, got -5"),
        (["--model", "m", "--concurrency", "nan"], "--concurrency: expected 0 to 1,000,000,000, got nan"),
        (["--model", "m", "--memory-share", "0"], "--memory-share: expected above 0 and up to 1, got 0"),
        (["--model", "m", "--journal", "/no/such"], "--journal: expected a journal's folder or a file of it"),
    ],
)
def test_refusals_name_the_flag_the_value_and_what_is_allowed(argv: list[str], says: str, capsys: Capture) -> None:
    assert main(["plan", *argv]) == 2
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "80 parsecs", "-1GiB", "99999TiB"])
def test_a_size_that_is_none_is_refused(size: str, capsys: Capture) -> None:
    with pytest.raises(SystemExit):
        main(["plan", "--model", "m", f"--device-memory={size}"])
    assert "argument --device-memory: expected a size" in capsys.readouterr().err


def test_a_journal_tells_tokens_and_shares(tmp_path: Path, capsys: Capture) -> None:
    lines = [
        {"type": "request", "version": 1, "id": "", "request_id": "", "time_s": 0, "kind": "chat", "asked": "auto",
         "end": "finish", "status": 200, "model": "small", "prompt_tokens": prompt, "completion_tokens": 20}
        for prompt in (100, 300)
    ]  # fmt: skip
    journal = tmp_path / "a.jsonl"
    journal.write_text("".join(json.dumps(line) + "\n" for line in lines))
    argv = ["plan", "--model", str(PAIR / "small"), "--device-memory", "24GiB", "--json", "--journal", str(journal)]
    assert main(argv) == 0
    mix = json.loads(capsys.readouterr().out)["mix"]
    assert (mix["prompt_tokens"], mix["output_tokens"], mix["shares"]) == (200.0, 20.0, {"small": 2.0})
