"""What the command says of a word that it does not take: the flag, the file, the key, and where it belongs."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest

from router.cli.main import main


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADGATE_API_KEY", raising=False)


def usage(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as exit:
        main(argv)
    assert exit.value.code == 2
    return capsys.readouterr().err


def refused(argv: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(argv) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (
            ["serve", "--small", "a", "--large", "b", "--model", "m"],
            "unrecognized argument --model; a model is given as --small MODEL or --large MODEL, or by itself",
        ),
        (["serve", "x.yaml", "--model=m"], "unrecognized argument --model; a model is given as --small MODEL"),
        (["serve", "--max-model-len", "9"], "is given behind its model (headgate serve MODEL --max-model-len ...)"),
        (["serve", "--max-model-len", "9"], "as --engine-arg max-model-len=VALUE"),
        (["serve", "--prot", "9"], "unrecognized argument --prot; did you mean --port?"),
        (["serve", "--config", "x.yaml"], "a config file is given by itself: headgate serve FILE"),
        (["validate", "x.yaml", "--jsno"], "unrecognized argument --jsno; did you mean --json?"),
        (["serve", "x.yaml", "y.yaml"], "unrecognized argument y.yaml\n"),
    ],
)
def test_an_unknown_flag_gets_the_verb_s_usage_and_a_hint(
    argv: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = usage(argv, capsys)
    assert error.startswith(f"usage: headgate {argv[0]}")
    assert hint in error


PAIR = ["serve", "--small", "org/a", "--large", "org/b"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--small-strength", "25"], "the command line: expected 0 to 1, got 25.0 - at `--small-strength`"),
        (["--large-strength", "nan"], "expected 0 to 1, got nan - at `--large-strength`"),
        (["--large-like", "gpt-4"], "the command line: large: like: expected a model of the checkpoint"),
        (["--large-like", "gpt-4"], "and 32 more; got 'gpt-4'; did you mean 'gpt-4-1106-preview'? - at `--large-like`"),
        (["--price", "nan"], "the command line: expected 0 to 1,000,000,000,000, got nan - at `--price`"),
        (["--port", "70000"], "the command line: expected 0 to 65,535, got 70000 - at `--port`"),
        (["--host", "0.0.0.0:80"], "without port, got '0.0.0.0:80' - at `--host`"),
        (["--checkpoint", "/no/such"], "the command line: /no/such: cannot be read"),
        (["--engine-arg", "port=1"], "'port' is set by `server.port`, not here - at `--engine-arg port`"),
        (["--small-arg", "x=" + "[" * 999], "--small-arg: x: the value is not understood"),
        (
            ["--small", "http://h", "--small-arg", "x=1"],
            "--small-arg: --small is a URL: vLLM's arguments are given where",
        ),
        (["--api-key", ""], "--api-key: the API key is empty"),
        (["--api-key", "  "], "--api-key: the API key is empty"),
        (["--api-key-file", "/no/such"], "--api-key-file: /no/such: cannot be read"),
    ],
)
def test_a_flag_s_refusal_names_flag_value_and_what_is_allowed(
    argv: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused([*PAIR, *argv], capsys)
    assert error.startswith("headgate: error: ")
    assert message in error
    assert error.count("\n") == 1
    assert len(error) < 450


def test_a_flag_above_a_file_is_to_blame_for_its_own_value_only(
    config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    path = config()
    assert "the command line: expected 0 to 1, got 7.0 - at `--threshold`" in refused(
        ["serve", str(path), "--threshold", "7"], capsys
    )
    path = config(routing={"threshold": 7})
    error = refused(["serve", str(path), "--threshold", "0.5"], capsys)
    assert f"{path}: expected 0 to 1, got 7.0 - at `$.routing.threshold`" in error


@pytest.mark.parametrize("flag", ["--small-like", "--large-strength", "--small-arg"])
def test_a_flag_of_a_model_without_it_is_refused_not_passed_over(
    config: Callable[..., Path], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = refused(["serve", str(config()), flag, "0.5"], capsys)
    assert f"{flag} is about {flag.rpartition('-')[0]}: of a member in a file, say it there" in error


@pytest.mark.parametrize("verb", ["serve", "validate"])
def test_a_claim_that_the_checkpoint_does_not_know_names_file_and_key(
    config: Callable[..., Path], verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = config(pool=[{"name": "a", "model": "org/x"}, {"name": "b", "model": "org/y", "like": "gpt-4"}])
    error = refused([verb, str(path)], capsys)
    assert error.startswith(f"headgate: error: {path}: b: like: expected a model of the checkpoint, one of ")
    assert error.endswith("- at `$.pool[1].like`\n")


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "expected one line, the key"), ("a\nb", "expected one line, the key"), ("k" * 5000, "of at most 4096 bytes")],
)
def test_a_key_file_holds_one_line(tmp_path: Path, text: str, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "key").write_text(text)
    assert message in refused([*PAIR, "--api-key-file", str(tmp_path / "key")], capsys)


def test_an_empty_key_variable_does_not_open_the_server(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HEADGATE_API_KEY", "")
    assert "HEADGATE_API_KEY: the API key is empty" in refused(PAIR, capsys)


def test_a_path_below_the_home_folder_needs_no_shell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    error = refused([*PAIR, "--checkpoint=~/none.safetensors"], capsys)
    assert f"{tmp_path}/none.safetensors: cannot be read" in error
    assert "invalid" not in usage(["serve", "--small", "a", "--large", "b", "--api-key-file="], capsys).splitlines()[0]


def test_a_key_on_the_command_line_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.WARNING, "headgate"):
        refused([*PAIR, "--api-key", "s3cret", "--price", "-1"], capsys)
    assert "--api-key: whoever may list this machine's processes can read the key" in caplog.text
    assert "s3cret" not in caplog.text
