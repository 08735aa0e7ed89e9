"""What `serve` and `validate` know of a pool before anything is loaded: exit status 2, file or flag, key, value."""

import asyncio
import json
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.cli import preflight
from router.cli.main import main
from router.config import Config, Member
from router.errors import ConfigError

HOST = f"{sys.executable} -P {Path(__file__).resolve().parents[1] / 'pool' / 'scripted_host.py'}"
VERBS = ("validate", "serve")


@pytest.fixture(autouse=True)
def nothing_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(coroutine: Any) -> None:
        coroutine.close()
        raise AssertionError("an engine would have been started")

    monkeypatch.setattr("uvloop.run", run)
    monkeypatch.delenv("HEADGATE_API_KEY", raising=False)


@pytest.fixture
def hosts_start(nothing_starts: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uvloop.run", asyncio.run)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def checker(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Puts a script in the place of vLLM's parser."""
    monkeypatch.setattr(preflight, "has_vllm", lambda: True)
    monkeypatch.setattr(preflight, "CHECK_COMMAND", (sys.executable, "-c", code))


def answering(refusal: object) -> str:
    return f"import sys; sys.stdin.read(); print({json.dumps(json.dumps(refusal))})"


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(
    ("model", "why"),
    [
        ("./nowhere", "'./nowhere' is not a folder"),
        ("/no/such", "'/no/such' is not a folder"),
        ("a/b/c", "'a/b/c' is neither a folder nor the id of a model on a hub, as in org/name"),
        ("a b", "'a b' is neither a folder nor the id of a model on a hub, as in org/name"),
        ("{folder}/empty", "is a folder without a model: it has no config.json"),
        ("{folder}/broken", "holds no model: its config.json cannot be read: "),
        ("{folder}/list", "holds no model: its config.json is no JSON object"),
        ("{folder}/weights.bin", "is a file; expected a folder with a model, or a .gguf file"),
    ],
)
def test_a_model_that_is_not_there_is_refused_before_anything_is_loaded(
    config: Callable[..., Path], tmp_path: Path, verb: str, model: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, card in (("empty", None), ("broken", "{"), ("list", "[]")):
        (tmp_path / name).mkdir()
        if card is not None:
            (tmp_path / name / "config.json").write_text(card)
    (tmp_path / "weights.bin").touch()
    pool = [{"name": "a", "model": "org/fine"}, {"name": "b", "model": model.format(folder=tmp_path)}]
    path = config(pool=pool)
    assert main([verb, str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"headgate: error: {path}: ")
    assert why in error
    assert error.endswith(" - at `$.pool[1].model`\n")


@pytest.mark.parametrize("size", ["small", "large"])
def test_a_flag_s_model_that_is_not_there_names_the_flag(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    pair = {"small": "org/a", "large": "org/b", size: "./nowhere"}
    assert main(["serve", "--small", pair["small"], "--large", pair["large"]]) == 2
    expected = f"the command line: './nowhere' is not a folder - at `--{size}`"
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize("name", ["org/name", "name", "org/name-GGUF:Q4_K_M", "s3://bucket/model"])
def test_what_this_machine_cannot_know_is_left_to_the_engine(name: str) -> None:
    preflight.look(Config(pool=(Member(name="a", model=name),)), "x")


def test_a_model_described_elsewhere_is_left_to_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checker(monkeypatch, answering(None))
    preflight.look(Config(pool=(Member(name="a", model=str(tmp_path), engine_args={"hf-config-path": "x"}),)), "x")
    (tmp_path / "m.gguf").touch()
    preflight.look(Config(pool=(Member(name="a", model=str(tmp_path / "m.gguf")),)), "x")


def test_an_argument_that_vllm_refuses_is_named_by_file_and_key(
    config: Callable[..., Path], model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    checker(monkeypatch, answering({"index": 0, "key": "max-modle-len", "why": "vLLM has no such argument"}))
    pool = [{"name": "a", "model": "org/a"}, {"name": "b", "model": str(model), "engine_args": {"max-modle-len": 1}}]
    path = config(pool=pool)
    assert main(["validate", str(path)]) == 2
    expected = f"{path}: vLLM has no such argument - at `$.pool[1].engine_args.max-modle-len`"
    assert expected in capsys.readouterr().err


@pytest.mark.usefixtures("hosts_start")
def test_an_argument_that_a_host_refuses_as_it_starts_is_named_by_file_and_key(
    config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    pool = [{"name": "a", "model": "org/a"}, {"name": "b", "model": "org/b", "engine_args": {"refused": "refused"}}]
    path = config(pool=pool)
    assert main(["serve", "--host-command", HOST, str(path)]) == 2
    shown = capsys.readouterr().err
    assert f"headgate: error: {path}: vLLM has no such argument - at `$.pool[1].engine_args.refused`" in shown
    assert "failed after" not in shown  # its log says no more, and is gone


@pytest.mark.usefixtures("hosts_start")
@pytest.mark.parametrize(
    ("argv", "flag"),
    [(["--large-arg", "refused=refused"], "--large-arg"), (["--engine-arg", "refused=refused"], "--engine-arg")],
)
def test_an_argument_by_flag_names_the_flag(argv: list[str], flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    ports = ["--port", "0", "--admin-port", "0", "--host-command", HOST]
    assert main(["serve", "--small", "org/a", "--large", "org/b", *ports, *argv]) == 2
    assert f"the command line: vLLM has no such argument - at `{flag} refused`" in capsys.readouterr().err


@pytest.mark.parametrize("verb", VERBS)
def test_one_of_headgate_s_own_needs_no_vllm_to_be_found(
    config: Callable[..., Path], verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(pool=[{"name": "a", "model": "org/a", "engine_args": {"allowed_origins": ["*"]}}])
    assert main([verb, str(path)]) == 2
    assert "- at `$.pool[0].engine_args.allowed_origins`" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["import sys; sys.exit('no driver')", "print('not JSON')", "print(3)"])
def test_where_vllm_gives_no_word_the_start_goes_on_and_says_so(
    code: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    checker(monkeypatch, code)
    with caplog.at_level(logging.WARNING, "headgate"):
        preflight.look(Config(pool=(Member(name="a", model="org/a", engine_args={"x": 1}),)), "x")
    assert "`engine_args` were not checked beforehand: " in caplog.text


def test_without_vllm_an_engine_is_refused_and_a_url_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "has_vllm", lambda: False)
    preflight.require_vllm(Config(pool=(Member(name="a", kind="openai", url="http://h"),)), "x")
    with pytest.raises(ConfigError, match=r"x: an engine needs vLLM: pip install 'headgate-router\[vllm\]'.*pool\[0\]"):
        preflight.require_vllm(Config(pool=(Member(name="a", model="m"),)), "x")


def test_the_check_inherits_no_key(config: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    code = "import os, json; print(json.dumps({'index': 0, 'key': '', 'why': os.environ.get('SECRET', 'none')}))"
    checker(monkeypatch, code)
    monkeypatch.setenv("SECRET", "s3cret")
    made = Config(pool=(Member(name="a", model="org/a", engine_args={"x": 1}),), secret_variables=("SECRET",))
    with pytest.raises(ConfigError, match=r"x: none - at `\$\.pool\[0\]\.engine_args`"):
        preflight.look(made, "x")
