"""The command without engines: verbs, refusals, validate, and what serving imports."""

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router import config as configuration
from router.cli.flags import add_config_arguments, config_of, engine_args_of
from router.cli.main import main
from router.errors import ConfigError
from router.version import __version__


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(["--version"])
    assert exit.value.code == 0
    assert capsys.readouterr().out == f"headgate {__version__}\n"


@pytest.mark.parametrize("argv", [[], ["fly"], ["serve", "--no-such-flag"]])
def test_usage_errors_are_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main(argv)
    assert exit.value.code == 2
    assert "usage: headgate" in capsys.readouterr().err


def test_help_names_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(verb in text for verb in ("serve", "validate", "train"))


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["serve"], "expected a config file, a MODEL, or --small MODEL and --large MODEL"),
        (["serve", "--small", "x"], "expected a config file, a MODEL, or --small MODEL and --large MODEL"),
        (["serve", "x.yaml", "--small", "x"], "a config file or --small and --large, not both"),
        (["serve", "/no/such.yaml"], "/no/such.yaml: cannot be read"),
        (
            ["serve", "--small", "x", "--large", "y", "--engine-arg", "=3"],
            "--engine-arg: expected NAME=VALUE, got '=3'",
        ),
        (["serve", "--small", "x", "--large", "y", "--threshold", "7"], "the command line: expected 0 to 1, got 7.0"),
        (["serve", "--small", "x", "--large", "y", "--checkpoint", "/no/such"], "/no/such: cannot be read"),
        (["validate", "/no/such.yaml"], "/no/such.yaml: cannot be read"),
    ],
)
def test_refusals_say_why(argv: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(argv) == 2
    error = capsys.readouterr().err
    assert error.startswith("headgate: error: ")
    assert message in error


def test_engine_arguments_are_yaml_values() -> None:
    pairs = ["max-num-seqs=8", "--enforce_eager", "dtype=float32", "x=null", 'rope={"a": [1]}']
    assert engine_args_of(pairs, "--engine-arg") == {
        "max_num_seqs": 8,
        "enforce_eager": True,
        "dtype": "float32",
        "x": None,
        "rope": {"a": [1]},
    }
    with pytest.raises(ConfigError, match="--large-arg: x: the value is not understood"):
        engine_args_of(["x=[1"], "--large-arg")


def test_validate_shows_what_a_config_means(config: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    path = config()
    assert main(["validate", str(path)]) == 0
    text = capsys.readouterr().out
    assert f"{path} is valid." in text
    assert "small: engine stub, scored as llama-3.1-8b-instruct" in text
    assert "large: engine stub, scored by strength 0.6" in text
    assert "large is the strongest, small the weakest" in text
    assert "small.safetensors: mf, calibration: not told" in text
    assert "member  devices  memory  USD/hour\n" in text
    assert main(["validate", str(path), "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["routing"]["strong"] == "large"
    assert (summary["routing"]["router"], summary["routing"]["calibration"]) == ("mf", "")
    assert summary["pool"][1]["placement"]["by"] == "strength"
    assert [place["usd_per_hour"] for place in summary["places"]] == [0.2, 1.8]


@pytest.mark.parametrize(
    ("routing", "said"),
    [
        ({}, "choice   auto: before the answer alone, as there is no verifier"),
        ({"choice": "before"}, "choice   before\n"),
        ({"choice": "handoff"}, "choice   handoff, by a fixed rule, as there is no verifier"),
        ({"verifier": "v.safetensors"}, "choice   auto, by the verifier v.safetensors"),
    ],
)
def test_validate_says_when_models_are_chosen(
    config: Callable[..., Path], capsys: pytest.CaptureFixture[str], routing: dict[str, str], said: str
) -> None:
    assert main(["validate", str(config(routing={"checkpoint": "default"} | routing))]) == 0
    assert said in capsys.readouterr().out


def test_validate_shows_the_rules_and_refuses_one_that_can_never_act(
    config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    first = {"name": "pii", "when": {"personal": ["email"], "code": False}, "local": True}
    second = {"name": "tax", "when": {"words": ["tax"]}, "pin": "small"}
    assert main(["validate", str(config(routing={"checkpoint": "default", "rules": [first, second]}))]) == 0
    text = capsys.readouterr().out
    assert "  rule     pii: code, personal -> local\n  rule     tax: words -> pin\n" in text
    shadowed = second | {"name": "more", "pin": "large"}
    assert main(["validate", str(config(routing={"checkpoint": "default", "rules": [second, shadowed]}))]) == 2
    why = "it can never act: rule 'tax', before it, holds whenever this one does, and pins 'small'"
    assert why in capsys.readouterr().err


def test_validate_ranks_no_pooling_models(config: Callable[..., Path], capsys: pytest.CaptureFixture[str]) -> None:
    pooling = {"name": "emb-70b", "kind": "openai", "url": "http://h", "capabilities": ["embeddings", "rerank"]}
    one = {"name": "qwen-0.5b", "kind": "openai", "url": "http://h"}
    path = config(pool=[pooling, one, one | {"name": "qwen-7b"}], routing={"checkpoint": "default"})
    assert main(["validate", str(path)]) == 0
    text = capsys.readouterr().out
    assert "emb-70b: openai http://h, a pooling model: asked for by name, not scored" in text
    assert "qwen-7b is the strongest, qwen-0.5b the weakest" in text
    assert main(["validate", str(config(pool=[pooling], routing={"checkpoint": "default"}))]) == 0
    assert "none: every member is a pooling model, which is asked for by name" in capsys.readouterr().out


def test_a_guess_at_which_is_the_strongest_is_called_one(
    config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    hint = "(which is the strongest is a guess: set `strength` or `like` of each member)"
    assert main(["validate", str(config())]) == 0
    assert hint not in capsys.readouterr().out
    path = config(
        pool=[{"name": "smollm-135m", "model": "a"}, {"name": "other-0.5b", "model": "b"}],
        routing={"checkpoint": "default"},
    )
    assert main(["validate", str(path)]) == 0
    text = capsys.readouterr().out
    assert hint in text
    assert "other-0.5b is the strongest, smollm-135m the weakest" in text
    assert "a guess from its size; `strength` or `like` sets it" in text


@pytest.mark.parametrize(
    ("branch", "message"),
    [
        (
            {"pool": [{"name": "a", "model": "x", "liek": "y"}]},
            "unknown key 'liek' - at `$.pool[0]`; did you mean 'like'?",
        ),
        ({"pool": [{"name": "a", "model": "x"}] * 2}, "two members are named 'a'; names must differ - at `$.pool[1]`"),
        ({"pool": [{"name": "a", "model": "x", "like": "llama-3.1-8b"}]}, "did you mean 'llama-3.1-8b-instruct'?"),
        ({"pool": [{"name": "a", "model": "/no/such"}]}, "'/no/such' is not a folder - at `$.pool[0].model`"),
        ({"pool": []}, "the pool is empty"),
        ({"routing": {"checkpoint": "/no/such"}}, "/no/such: cannot be read"),
    ],
)
def test_validate_refuses(
    config: Callable[..., Path], branch: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["validate", str(config(**branch))]) == 2
    assert message in capsys.readouterr().err


HEAVY = ("torch", "vllm", "transformers", "pyarrow", "scipy", "sklearn", "aiohttp", "matplotlib", "rich", "pandas")


def test_serving_imports_nothing_heavy() -> None:
    code = (
        "import sys, router.cli.serve, router.cli.flags, router.cli.progress, router.frontend.server\n"
        "import router.pipeline.router, router.pool.engine, router.heads.methods.mf\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_command_itself_imports_little() -> None:
    code = "import sys, router.cli.main; print([n for n in ('numpy', 'asyncio', 'yaml') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def config_for(*argv: str) -> Any:
    parser = argparse.ArgumentParser()
    add_config_arguments(parser)
    return config_of(parser.parse_args(argv))


def test_a_flag_for_one_engine_stands_above_one_for_all() -> None:
    pool = config_for(
        "--small", "a", "--large", "b", "--engine-arg", "x=1", "--engine-arg", "y=1", "--small-arg", "x=2"
    ).pool
    assert [member.engine_args for member in pool] == [{"x": 2, "y": 1}, {"x": 1, "y": 1}]


def test_a_flag_stands_above_the_file(config: Callable[..., Path]) -> None:
    pool = [{"name": "a", "model": "m", "engine_args": {"max-model-len": 10, "z": 1}}]
    path = config(pool=pool, server={"port": 1, "host": "0.0.0.0"})
    made = config_for(
        str(path), "--engine-arg", "max_model_len=20", "--port", "2", "--price", "3", "--threshold", "0.5"
    )
    assert made.pool[0].engine_args == {"max_model_len": 20, "z": 1}
    assert (made.server.host, made.server.port) == ("0.0.0.0", 2)
    assert (made.routing.price, made.routing.threshold) == (3.0, 0.5)


def test_a_url_makes_a_member_by_url() -> None:
    small, large = config_for("--small", "http://gpu:8000", "--large", "org/b", "--small-strength", "0.3").pool
    assert (small.kind, small.url, small.strength) == ("openai", "http://gpu:8000", 0.3)
    assert (large.kind, large.model) == ("engine", "org/b")


def test_a_key_from_flag_or_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.config.api_key_from_environment", lambda: "from-env")
    assert config_for("--small", "a", "--large", "b").server.api_keys == ("from-env",)
    assert config_for("--small", "a", "--large", "b", "--api-key", "k").server.api_keys == ("k",)


@pytest.mark.parametrize("key", ["", " ", "\t\n", "key\n"])
def test_an_empty_key_of_flag_or_environment_is_refused(monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    pair = ("--small", "a", "--large", "b")
    with pytest.raises(ConfigError, match=r"^--api-key: the API key "):
        config_for(*pair, "--api-key", key)
    monkeypatch.setattr("router.config.api_key_from_environment", lambda: key)
    with pytest.raises(ConfigError, match=r"^HEADGATE_API_KEY: the API key "):
        config_for(*pair)


def test_no_key_in_the_environment_is_none() -> None:
    assert configuration.api_key_from_environment({}) is None
    assert configuration.api_key_from_environment({"HEADGATE_API_KEY": ""}) == ""
