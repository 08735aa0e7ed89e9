"""`headgate serve MODEL --flag ...`: what is ours, what is vLLM's, and what a pool of one is made of."""

import argparse
import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import httpx
import pytest

from router.cli import serve as verb
from router.cli import vllm_flags
from router.cli.flags import config_of
from router.cli.main import main
from router.cli.vllm_flags import split
from router.errors import ConfigError
from router.ipc.spec import ServeFlags
from tests.cli.conftest import Serve

needs_vllm = pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HEADGATE_API_KEY", raising=False)
    monkeypatch.delenv("VLLM_API_KEY", raising=False)


@pytest.fixture
def own() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    return parser


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets what vLLM's parser says; the words that it was asked."""
    asked: list[list[str]] = []

    def say(**flags: Any) -> list[list[str]]:
        def ask(words: Sequence[str]) -> ServeFlags:
            asked.append(list(words))
            return ServeFlags(**flags)

        monkeypatch.setattr(vllm_flags, "_ask", ask)
        return asked

    return say


def config(*words: str) -> Any:
    parser = argparse.ArgumentParser()
    verb.add_arguments(parser)
    ours, theirs = split(words, parser)
    args = parser.parse_args(ours)
    args.vllm_words = tuple(theirs)
    return config_of(args)


@pytest.mark.parametrize(
    ("words", "theirs"),
    [
        ("org/m", "org/m"),
        ("org/m --max-model-len 4k -tp 2", "org/m --max-model-len 4k -tp 2"),
        ("org/m --port 9 --json --price 3 --dtype half", "org/m --port 9 --dtype half"),
        ("--json --admin-port=9 org/m --api-key a b", "org/m --api-key a b"),
        ("--log-level debug --model org/m", "--model org/m"),
        ("org/m --config flags.yaml --host ::", "org/m --config flags.yaml --host ::"),
        ("--dtype half org/m", "--dtype half org/m"),
        ("--enforce-eager org/m --port 9 --json", "--enforce-eager org/m --port 9"),
        ("--dtype half gpt2", "--dtype half gpt2"),
        ("--dtype=half gpt2 --price 2", "--dtype=half gpt2"),
        ("--dtype half", ""),
        ("--dtype half headgate.yaml", ""),
        ("headgate.yaml --port 9", ""),
        ("nosuch.yml", ""),
        ("--small a --large b --port 9", ""),
        ("--small a --large b --dtype half", ""),
        ("--max-model-len 9", ""),
        ("", ""),
    ],
)
def test_the_words_of_a_model_go_to_vllms_parser_and_ours_stay(
    own: argparse.ArgumentParser, words: str, theirs: str
) -> None:
    ours, found = split(words.split(), own)
    assert found == theirs.split()
    assert sorted(ours + found) == sorted(words.split())


def test_a_value_longer_than_a_files_name_can_be_stands_before_the_model_too(own: argparse.ArgumentParser) -> None:
    words = ["--hf-overrides", '{"' + "k" * 300 + '": 1}', "org/m"]
    assert split(words, own) == ([], words)


def test_a_file_of_vllms_flags_that_names_a_model_is_vllms_and_a_config_of_ours_is_not(
    own: argparse.ArgumentParser, tmp_path: Path
) -> None:
    flags, ours = tmp_path / "flags.yaml", tmp_path / "headgate.yaml"
    flags.write_text("model: org/m\ndtype: half\n")
    ours.write_text("pool: [{name: a, model: org/m}]\n")
    assert split(["--config", str(flags), "--price", "2"], own) == (["--price", "2"], ["--config", str(flags)])
    assert split(["--config", str(ours)], own)[1] == []
    assert split(["--config", str(tmp_path / "missing.yaml")], own)[1] == []


def test_one_model_is_a_pool_of_one_under_each_of_its_names(answer: Any) -> None:
    asked = answer(
        model="org/m",
        names=("a", "b"),
        server={"port": 9, "api_keys": ["k"], "root_path": "/llm", "allowed_origins": ["https://a.example"]},
        engine_args={"dtype": "half"},
    )
    made = config("org/m", "--served-model-name", "a", "b", "--port", "9", "--price", "2")
    assert asked == [["org/m", "--served-model-name", "a", "b", "--port", "9"]]
    (member,) = made.pool
    assert (member.name, member.also, member.model, member.engine_args) == ("a", ("b",), "org/m", {"dtype": "half"})
    assert (made.server.port, made.server.api_keys, made.server.root_path) == (9, ("k",), "/llm")
    assert made.server.allowed_origins == ("https://a.example",)
    assert made.routing.price == 2


def test_a_model_without_a_name_is_served_under_what_it_was_asked_for_by(answer: Any) -> None:
    answer(model="org/m")
    assert config("org/m").pool[0].name == "org/m"


def test_vllms_own_variable_guards_the_server_and_is_not_inherited(
    answer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer(model="org/m")
    monkeypatch.setenv("VLLM_API_KEY", "sekret")
    made = config("org/m")
    assert made.server.api_keys == ("sekret",)
    assert "VLLM_API_KEY" in made.secret_variables
    answer(model="org/m", server={"api_keys": ["other"]})
    assert config("org/m").server.api_keys == ("other",)
    monkeypatch.setenv("VLLM_API_KEY", "")
    answer(model="org/m")
    with pytest.raises(ConfigError, match="the API key is empty"):
        config("org/m")


@pytest.mark.parametrize(("value", "on"), [("True", True), ("1", True), ("0", False), ("", False)])
def test_vllms_switch_for_adapters_counts_for_the_public_port(
    answer: Any, monkeypatch: pytest.MonkeyPatch, value: str, on: bool
) -> None:
    answer(model="org/m")
    assert not config("org/m").server.adapter_routes
    monkeypatch.setenv("VLLM_ALLOW_RUNTIME_LORA_UPDATING", value)
    assert config("org/m").server.adapter_routes == on


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"refusal": "--ssl-keyfile: is set by a proxy"}, "the command line: --ssl-keyfile: is set by a proxy"),
        (
            {"model": "m", "server": {"root_path": "x/"}},
            "expected the start of a path, .* at `--root-path`",
        ),
        ({"model": "m", "server": {"uds": "/" + "x" * 120}}, "at most 107 bytes, not 121, got .* - at `--uds`"),
        ({"model": "m", "server": {"port": 70_000}}, "expected 0 to 65,535, got 70000 - at `--port`"),
        ({"model": "m", "names": ["a", "a"]}, "two members are named 'a'"),
        ({"model": "m", "names": ["a", "auto"]}, "'auto' cannot name a member"),
        ({"model": "m", "server": {"allowed_origins": ["x"]}}, "at `--allowed-origins`"),
    ],
)
def test_a_refusal_names_the_flag(answer: Any, flags: dict[str, Any], message: str) -> None:
    answer(**flags)
    with pytest.raises(ConfigError, match=message):
        config("m")


def test_a_flag_that_needs_nothing_is_told(answer: Any, caplog: pytest.LogCaptureFixture) -> None:
    answer(model="m", anyway=("disable_uvicorn_access_log",))
    with caplog.at_level(logging.INFO):
        config("m", "--disable-uvicorn-access-log")
    assert "--disable-uvicorn-access-log: nothing to do for it" in caplog.text


def test_a_parser_that_fails_is_told_with_its_last_words(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        vllm_flags, "COMMAND", ("sh", "-c", "cat > /dev/null; echo first >&2; echo no vllm >&2; exit 3")
    )
    assert main(["serve", "org/m", "--dtype", "half"]) == 2
    assert "the command line: vLLM's parser could not read it: no vllm" in capsys.readouterr().err


def test_a_parser_that_takes_too_long_is_told_with_the_limit_and_not_as_a_fault_of_the_flags(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vllm_flags, "COMMAND", ("sh", "-c", "exec sleep 600"))
    monkeypatch.setattr(vllm_flags, "_LIMIT_S", 0.1)
    assert main(["serve", "org/m", "--dtype", "half"]) == 2
    assert "could not read it: it took longer than 0.1 s, most of it to import vLLM" in capsys.readouterr().err


@needs_vllm
@pytest.mark.engine
def test_vllms_own_parser_reads_the_words_in_a_process_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    words = "org/m --max-model-len 4k -tp 2 --no-enable-prefix-caching --compilation-config.mode 3 --api-key a b"
    adapters = ("--enable-lora", "--lora-modules", "l=/a", '{"name":"n","path":"/b"}')
    made = config(*words.split(), "--served-model-name", "x", "y", *adapters)
    (member,) = made.pool
    assert (member.name, member.also, made.server.api_keys) == ("x", ("y",), ("a", "b"))
    assert member.engine_args == {
        "max_model_len": 4000,
        "tensor_parallel_size": 2,
        "enable_prefix_caching": False,
        "compilation_config": '{"mode": 3}',
        "enable_lora": True,
        "lora_modules": ["l=/a", '{"name":"n","path":"/b"}'],
    }
    assert main(["serve", "org/m", "--max-modle-len", "9"]) == 2
    assert "unrecognized arguments: --max-modle-len 9" in capsys.readouterr().err
    assert main(["serve", "org/m", "--ssl-keyfile", "k"]) == 2
    assert "--ssl-keyfile: is set by a proxy in front of `server`, not here" in capsys.readouterr().err


@needs_vllm
@pytest.mark.engine
def test_a_command_line_of_vllms_serves_one_model_under_all_its_names_by_a_unix_socket(
    serve: Callable[..., Serve], tmp_path: Path
) -> None:
    path = tmp_path / "s"
    words = f"org/m --served-model-name a b --max-model-len 64 --uds {path} --root-path /llm --api-key k --admin-port 0"
    server = serve(*words.split())
    assert server.events[-1]["uds"] == str(path)
    headers = {"authorization": "Bearer k"}
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://h") as client:
        assert client.get("/v1/models").status_code == 401
        models = client.get("/llm/v1/models", headers=headers).json()["data"]
        assert [(model["id"], model["root"]) for model in models] == [
            ("a", "org/m"), ("b", "org/m"),
        ]  # fmt: skip
        for name in ("a", "b", "org/m", "auto"):
            body = {"model": name, "messages": [{"role": "user", "content": "x"}]}
            response = client.post("/llm/v1/chat/completions", json=body, headers=headers)
            assert (response.status_code, response.json()["model"]) == (200, "a")
