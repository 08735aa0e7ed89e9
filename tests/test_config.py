"""The config: what is accepted, and what each refusal says."""

from pathlib import Path

import pytest

from router import config
from router.errors import ConfigError

TWO = "pool:\n- {name: small, model: a}\n- {name: large, model: b}\n"


def refused(text: str, env: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, source="headgate.yaml", env=env or {})
    return str(caught.value)


def test_defaults_are_safe() -> None:
    parsed = config.parse(TWO)
    assert parsed.server.host == "127.0.0.1"
    assert parsed.server.admin_host == "127.0.0.1"
    assert [member.kind for member in parsed.pool] == ["engine", "engine"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sever: {}", "unknown key 'sever'; did you mean 'server'?"),
        ("server: {prot: 1}", "unknown key 'prot' - at `$.server`; did you mean 'port'?"),
        (
            "server: {limits: {body_byte: 3}}",
            "unknown key 'body_byte' - at `$.server.limits`; did you mean 'body_bytes'?",
        ),
        (
            "pool: [{name: a, model: x, strenght: .4}]",
            "unknown key 'strenght' - at `$.pool[0]`; did you mean 'strength'?",
        ),
        ("routing: {xyzzy: 1}", "unknown key 'xyzzy' - at `$.routing`; expected one of checkpoint, price"),
        ("pool: [{name: a, model: x}, {name: a, model: y}]", "two members are named 'a'; names must differ"),
        ("pool: []", "the pool is empty"),
        ("version: 9\npool: [{name: a, model: x}]", "version 9 is not supported; expected 1"),
        ("pool: [{name: auto, model: x}]", "'auto' cannot name a member"),
        ("pool: [{name: router-x, model: x}]", "'router-x' cannot name a member"),
        ("pool: [{name: a}]", "an engine needs `model`"),
        ("pool: [{name: a, kind: openai, url: 'ftp://x'}]", "an openai member needs `url`"),
        ("pool: [{name: a, model: x, like: b, strength: .5}]", "give `like` or `strength`, not both"),
        ("pool: [{name: a, model: x, strength: 44}]", "strength is an accuracy, 0 to 1, got 44"),
        ("pool: [{name: a, model: x, gpu_share: 0}]", "gpu_share is above 0 and at most 1, got 0"),
        ("server: {port: 99999}\n" + TWO, "a port is 0 to 65535 - at `$.server.port`"),
        ("server: {port: high}\n" + TWO, "Expected `int`, got `str` - at `$.server.port`"),
        ("routing: {threshold: 2}\n" + TWO, "expected 0 to 1, got 2"),
        ("routing: {price: -1}\n" + TWO, "expected a price of 0 or more"),
        ("[1, 2]", "expected a mapping at the top, got list"),
        ("a: [", "not valid YAML"),
    ],
)
def test_refusals_name_file_key_and_expectation(text: str, message: str) -> None:
    error = refused(text)
    assert error.startswith("headgate.yaml: ")
    assert message in error


def test_environment_references() -> None:
    text = "server: {api_keys: ['${KEY}', '${OTHER:-spare}']}\n" + TWO
    assert config.parse(text, env={"KEY": "k"}).server.api_keys == ("k", "spare")
    assert "environment variable 'KEY' is not set - at `$.server.api_keys[0]`" in refused(text)


UNUSABLE_KEYS = {
    '[""]': "[0]",
    '["${K}"]': "[0]",
    '["${K:-}"]': "[0]",
    '["", real]': "[0]",
    '[real, ""]': "[1]",
    '[" "]': "[0]",
    r'["\t\n"]': "[0]",
    r'["\u00a0"]': "[0]",
    r'["real\n"]': "[0]",
    '[" real"]': "[0]",
    r'["re\0al"]': "[0]",
    r'["re\nal"]': "[0]",
    '["schlüssel"]': "[0]",
}


@pytest.mark.parametrize("keys", UNUSABLE_KEYS)
def test_a_key_that_no_request_can_present_is_refused_at_its_place_and_never_shown(keys: str) -> None:
    with pytest.raises(ConfigError) as refusal:
        config.parse(f"server: {{api_keys: {keys}}}\n" + TWO, source="headgate.yaml", env={"K": ""})
    error = str(refusal.value)
    assert error.startswith("headgate.yaml: the API key ")
    assert error.endswith(f" - at `$.server.api_keys{UNUSABLE_KEYS[keys]}`")
    assert "real" not in error


def test_a_key_may_hold_any_printable_ascii() -> None:
    text = "server: {api_keys: ['a b', '!\"#$%&/()=?']}\n" + TWO
    assert config.parse(text).server.api_keys == ("a b", '!"#$%&/()=?')


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "r.safetensors").touch()
    file = tmp_path / "headgate.yaml"
    file.write_text(
        "pool: [{name: a, model: weights}, {name: b, model: org/hub}]\nrouting: {checkpoint: r.safetensors}"
    )
    loaded = config.load(file)
    assert loaded.pool[0].model == str(tmp_path / "weights")
    assert loaded.pool[1].model == "org/hub"
    assert loaded.routing.checkpoint == str(tmp_path / "r.safetensors")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yaml: cannot be read"):
        config.load(tmp_path / "nope.yaml")
