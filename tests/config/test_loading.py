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
        ("pool: [{name: a, model: x, strength: 44}]", "expected 0 to 1, got 44.0 - at `$.pool[0].strength`"),
        ("pool: [{name: a, model: x, gpu_share: 0}]", "expected 0.001 to 1, got 0.0 - at `$.pool[0].gpu_share`"),
        ("server: {port: 99999}\n" + TWO, "expected 0 to 65,535, got 99999 - at `$.server.port`"),
        ("server: {port: high}\n" + TWO, "Expected `int`, got `str` - at `$.server.port`"),
        ("routing: {threshold: 2}\n" + TWO, "expected 0 to 1, got 2"),
        ("routing: {price: -1}\n" + TWO, "expected 0 to 1,000,000,000,000, got -1.0 - at `$.routing.price`"),
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
    r'["re\x7fal"]': "[0]",
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
    text = "server: {api_keys: ['a b', '!\"#$$%&/()=?']}\n" + TWO
    assert config.parse(text).server.api_keys == ("a b", '!"#$%&/()=?')


def test_a_key_may_have_a_choice_of_its_own_and_its_text_may_be_a_reference() -> None:
    text = "server: {api_keys: [plain, {key: '${K}', choice: cascade}]}\n" + TWO
    config_ = config.parse(text, env={"K": "secret"})
    assert config_.server.keys == (
        config.ApiKey(key="plain"),
        config.ApiKey(key="secret", choice="cascade"),
    )
    assert config_.secret_variables == ("K",)
    assert "secret" not in config.inherited_environment(config_, {"K": "secret", "L": "secret"}).values()


@pytest.mark.parametrize(
    ("keys", "why"),
    [
        ("{key: a, choice: twice}", "expected one of auto, before, cascade, handoff, got 'twice'"),
        ("{key: a, choise: before}", "unknown key 'choise' - at `$.server.api_keys[0]`; did you mean 'choice'?"),
        ("{choice: before}", "missing required field `key` - at `$.server.api_keys[0]`"),
        (
            "{key: a}, {key: a, choice: before}",
            "this key stands twice, with another `choice` - at `$.server.api_keys[1]`",
        ),
    ],
)
def test_a_key_whose_settings_are_wrong_is_refused(keys: str, why: str) -> None:
    assert why in refused(f"server: {{api_keys: [{keys}]}}\n" + TWO)


def test_when_models_are_chosen_is_auto_and_another_word_is_refused() -> None:
    routing = config.parse(TWO).routing
    assert (routing.choice, routing.verifier, routing.hold_s, routing.continue_lost) == ("auto", "", 20.0, True)
    why = "expected one of auto, before, cascade, handoff, got 'after' - at `$.routing.choice`"
    assert why in refused("routing: {choice: after}\n" + TWO)
    assert "expected 0 to 604,800 seconds, got -1" in refused("routing: {hold_s: -1}\n" + TWO)


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    (tmp_path / "weights").mkdir()
    (tmp_path / "r.safetensors").touch()
    file = tmp_path / "headgate.yaml"
    file.write_text(
        "pool: [{name: a, model: weights}, {name: b, model: org/hub}]\n"
        "routing: {checkpoint: r.safetensors, verifier: r.safetensors}"
    )
    loaded = config.load(file)
    assert loaded.pool[0].model == str(tmp_path / "weights")
    assert loaded.pool[1].model == "org/hub"
    assert loaded.routing.checkpoint == loaded.routing.verifier == str(tmp_path / "r.safetensors")


@pytest.mark.parametrize("parts", ["x" * 300, "org/" + "x" * 300, "/".join(["x"] * 5_000)])
def test_a_name_too_long_for_a_file_is_none_and_stays_as_it_is(tmp_path: Path, parts: str) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text(f"routing: {{checkpoint: {parts}}}\npool: [{{name: a, model: {parts}}}]\n")
    loaded = config.load(file)
    assert (loaded.pool[0].model, loaded.routing.checkpoint) == (parts, parts)
    assert not config.is_pooling(loaded.pool[0])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nope\.yaml: cannot be read"):
        config.load(tmp_path / "nope.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pool: [{name: a, model: x, kind: vllm}]", "expected one of engine, openai, got 'vllm' - at `$.pool[0].kind`"),
        (
            "pool: [{name: a, model: x, max_model_len: 512}]",
            "unknown key 'max_model_len' - at `$.pool[0]`; an argument of vLLM stands under `engine_args`",
        ),
        (
            "pool: [{name: a, model: x, dtype: half}]",
            "unknown key 'dtype' - at `$.pool[0]`; an argument of vLLM stands under `engine_args`",
        ),
        ("server: {limits: {foo: 4}}", "expected one of body_bytes, header_bytes, headers"),
        ("server: {limits: {foo: 4}}", "and 9 more"),
        ("pool: [{name: a, model: x, env: {A: 1}}]", "Expected `str`, got `int` - at `$.pool[0].env.A`; quote it"),
        ("secret_variables: [PATH]", "unknown key 'secret_variables'; expected one of version, server, pool"),
        ("pool: [{name: a, kind: openai, url: 'http://u:p@h:x'}]", "got 'http://***@h:x': its host or port"),
        ("pool: [{name: a, kind: openai, url: 'http://h:99999'}]", "an IPv6 host is in [ ] - at `$.pool[0].url`"),
        (
            "pool: [{name: a, kind: openai, url: 'http://u:p@h', api_key: k}]",
            "give `api_key` or a login in `url`, not both - at `$.pool[0].api_key`",
        ),
        (
            'pool: [{name: a, kind: openai, url: "http://h", api_key: "k\\n"}]',
            "expected printable ASCII without spaces, not shown here - at `$.pool[0].api_key`",
        ),
        (
            "pool: [{name: a, kind: openai, url: 'http://h', answer_timeout_s: .nan}]",
            "expected 0.001 to 604,800 seconds, got nan - at `$.pool[0].answer_timeout_s`",
        ),
        (
            "max_model_len: 512",
            "unknown key 'max_model_len'; expected one of version, server, pool, devices, routing, objective, "
            "supervision, journal and 3 more; an argument of vLLM stands under `engine_args` of a member",
        ),
        (
            "pool: [{name: a, model: x, engine_args: {port: 9000}}]",
            "'port' is set by `server.port`, not here - at `$.pool[0].engine_args.port`",
        ),
        (
            "pool: [{name: a, model: x, engine_args: {--allowed-origins: ['*']}}]",
            "is set by `server.allowed_origins`, not here - at `$.pool[0].engine_args.--allowed-origins`",
        ),
        (
            "pool: [{name: a, model: x, engine_args: {max-model-len: 1, max_model_len: 2}}]",
            "'max_model_len' stands twice, in two spellings - at `$.pool[0].engine_args.max_model_len`",
        ),
    ],
)
def test_refusals_lead_on(text: str, message: str) -> None:
    assert message in refused(text)


def test_no_value_of_a_secret_is_shown() -> None:
    for text in ("server: {api_keys: s3cret}", "server: {api_keys: [[s3cret]]}", "server: {api_keys: {s3cret: x}}"):
        assert "s3cret" not in refused(f"{text}\n{TWO}")


def test_paths_below_the_home_folder_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "weights").mkdir()
    file = tmp_path / "headgate.yaml"
    file.write_text(
        "pool: [{name: a, model: ~/weights, engine_args: {chat_template: ~/t.jinja, x: a~b}, env: {HF_HOME: ~/hf}}]\n"
        "routing: {checkpoint: ~/r.safetensors}\nsupervision: {runtime_dir: ~/run, log_dir: ~/logs}"
    )
    loaded = config.load("~/headgate.yaml")
    assert loaded.pool[0].model == str(tmp_path / "weights")
    assert loaded.pool[0].engine_args == {"chat_template": str(tmp_path / "t.jinja"), "x": "a~b"}
    assert loaded.pool[0].env == {"HF_HOME": str(tmp_path / "hf")}
    assert loaded.routing.checkpoint == str(tmp_path / "r.safetensors")
    assert loaded.supervision.runtime_dir == str(tmp_path / "run")
    assert loaded.supervision.log_dir == str(tmp_path / "logs")


def test_a_home_that_is_none_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "headgate.yaml"
    file.write_text("pool: [{name: a, model: ~no-such-user/weights}]")
    with pytest.raises(ConfigError, match=r"headgate\.yaml: \$\.pool\[0\]\.model: .*no home folder is known"):
        config.load(file)


def test_engines_inherit_no_variable_that_a_key_came_from() -> None:
    env = {"HEADGATE_API_KEY": "a", "CLIENTS": "b", "SPARE": "c", "UPSTREAM": "d", "COPY": "b"}
    env |= {"PATH": "p", "MODEL": "m"}
    text = (
        "server: {api_keys: ['${CLIENTS}', '${NONE:-${SPARE}}', literal]}\n"
        "pool: [{name: e, model: '${MODEL}'}, {name: u, kind: openai, url: 'http://h', api_key: '${UPSTREAM}'}]"
    )
    parsed = config.parse(text, env=env)
    assert config.inherited_environment(parsed, {**env, "X": "literal"}) == {"PATH": "p", "MODEL": "m"}
