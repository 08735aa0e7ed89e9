"""What is shown of a config and of members: no secret, wherever it stands and whatever it came from."""

import json
from typing import Any

import pytest

from router.config import Config, Member, parse
from router.frontend.redact import redacted

ENV = {"A": "fromenv-a", "B": "fromenv-b", "PORT": "8123", "PIN": "1234"}


def shown(text: str) -> Any:
    config = parse(text, env=ENV)
    return redacted(config)


def test_what_a_reference_brought_is_hidden_wherever_it_stands() -> None:
    config = shown(
        "server: {port: '${PORT}', host: '${A}', api_keys: ['${A}', 'x-${B}']}\n"
        "pool:\n"
        "- {name: a, model: '${A}/x', env: {X: '${A}'},\n"
        "   engine_args: {any-name: '${B}', other: {deep: ['${PIN}', plain]}}}\n"
        "- {name: b, kind: openai, url: 'http://h/${B}', model: '${A:-default}'}\n"
        "routing: {checkpoint: '${A}'}\n"
    )
    text = json.dumps(config)
    for secret in ("fromenv", "1234"):
        assert secret not in text
    a, b = config["pool"]
    assert a["engine_args"] == {"any-name": "***", "other": {"deep": ["***", "plain"]}}
    assert (a["model"], b["url"], b["model"], config["server"]["host"]) == ("***",) * 4
    assert a["env"] == {"X": "***"}, "names stay"
    assert "expanded_at" not in config


def test_the_spelling_of_an_argument_makes_no_difference() -> None:
    config = parse("pool: [{name: a, model: m, engine_args: {some-name: '${A}'}}]", env=ENV)
    config = Config(
        pool=(Member(name="a", model="m", engine_args={"some_name": "fromenv-a"}),), expanded_at=config.expanded_at
    )
    assert "fromenv" not in json.dumps(redacted(config))


@pytest.mark.parametrize(
    "value",
    [
        {"hf_token": "v-e-r-y"},
        {"api-key": "v-e-r-y"},
        {"password": 12345678},
        {"auth": {"user": "v-e-r-y", "list": ["v-e-r-y"], "number": 12345678}},
        {"default_headers": {"X-Whatever": "v-e-r-y"}},
        {"anything": "hf_veryveryvery"},
        {"anything": "sk-veryveryvery"},
        {"anything": ["Bearer v-e-r-y"]},
        {"anything": '{"token": "v-e-r-y"}'},
        {"anything": "--api-key v-e-r-y --x"},
        {"anything": "password=v-e-r-y"},
        {"anything": "http://user:v-e-r-y@host/path"},
        {"anything": "http://user:v/e-r-y@host/path"},
        {"anything": "s3://bucket/x?signature=v-e-r-y"},
        {"anything": "http://h/x#v-e-r-y"},
        {"anything": "veryA1" * 8},
    ],
    ids=str,
)
def test_what_looks_like_a_secret_is_hidden_where_anything_may_stand(value: dict[str, Any]) -> None:
    text = json.dumps(redacted(Config(pool=(Member(name="a", model="m", engine_args=value),))))
    for secret in ("v-e-r-y", "e-r-y", "veryvery", "veryA1", "12345678"):
        assert secret not in text
    assert all(name in text for name in value)


def test_what_an_operator_needs_is_shown() -> None:
    arguments = {
        "max_model_len": 4096,
        "tokenizer_mode": "auto",
        "max_num_batched_tokens": 2048,
        "dtype": "bfloat16",
        "enforce_eager": True,
        "hf_overrides": {"num_key_value_heads": 8, "architectures": ["Qwen2ForCausalLM"]},
        "tokenizer": "/models/Meta-Llama-3.1-8B-Instruct-AWQ-INT4",
        "revision": None,
    }
    member = Member(name="small", model="Qwen/Qwen2.5-Coder-0.5B-Instruct", engine_args=arguments, api_key="")
    config: Any = redacted(Config(pool=(member,)))
    assert config["pool"][0]["engine_args"] == arguments
    assert (config["pool"][0]["model"], config["pool"][0]["api_key"]) == (member.model, "")
    assert config["server"]["limits"]["header_bytes"] == 64 * 1024


def test_a_file_cannot_say_where_references_stood() -> None:
    from router.errors import ConfigError

    with pytest.raises(ConfigError, match="unknown key 'expanded_at'"):
        parse("expanded_at: []\npool: [{name: a, model: m}]")
