"""References to the environment: the shell's meaning, or a refusal; never public text as a secret."""

import pytest

from router import config
from router.config import interpolation
from router.config.lookalikes import form_of
from router.errors import ConfigError

POOL = "pool: [{name: a, kind: openai, url: 'http://127.0.0.1:1'}]\n"


def expanded(text: str, **env: str) -> str:
    return interpolation.expand(interpolation.parse(text), env)


def key_of(reference: str, **env: str) -> str:
    (key,) = config.parse(f"server: {{api_keys: ['{reference}']}}\n{POOL}", source="h.yaml", env=env).server.api_keys
    return key


@pytest.mark.parametrize(
    ("text", "env", "right"),
    [
        ("${A}", {"A": "a"}, "a"),
        ("x${A}y${B}z", {"A": "a", "B": "b"}, "xaybz"),
        ("${A}", {"A": ""}, ""),
        ("${A:-d}", {}, "d"),
        ("${A:-d}", {"A": ""}, "d"),
        ("${A:-d}", {"A": "a"}, "a"),
        ("${A-d}", {}, "d"),
        ("${A-d}", {"A": ""}, ""),
        ("${A:+alt}", {}, ""),
        ("${A:+alt}", {"A": ""}, ""),
        ("${A:+alt}", {"A": "a"}, "alt"),
        ("${A+alt}", {"A": ""}, "alt"),
        ("${A:?why}", {"A": "a"}, "a"),
        ("${A?why}", {"A": ""}, ""),
        ("${A:-${B}}", {"B": "b"}, "b"),
        ("${A:-${B}}", {"A": "a", "B": "b"}, "a"),
        ("${A:-${B:-${C:-end}}}!", {}, "end!"),
        ("${A:-x${B}y}z", {"B": "b"}, "xbyz"),
        ("${A:-}", {}, ""),
        ("${A:-a:-b}", {}, "a:-b"),
        ("$$", {}, "$"),
        ("$${A}", {"A": "a"}, "${A}"),
        ("$$$${A}", {}, "$${A}"),
        ("$$${A}", {"A": "a"}, "$a"),
        ("${A:-$${B}", {}, "${B"),
        ("a}b", {}, "a}b"),
        ("${A}", {"A": "${B} $B $$"}, "${B} $B $$"),  # what a variable holds is not expanded again
    ],
)
def test_a_reference_means_what_the_shell_means(text: str, env: dict[str, str], right: str) -> None:
    assert expanded(text, **env) == right


@pytest.mark.parametrize(
    ("text", "env", "message"),
    [
        ("${A}", {}, "environment variable 'A' is not set"),
        ("${A:?must be set}", {}, "environment variable 'A' is not set: must be set"),
        ("${A:?must be set}", {"A": ""}, "environment variable 'A' is empty: must be set"),
        ("${A?}", {}, "environment variable 'A' is not set"),
        ("${A:-${B}}", {}, "environment variable 'B' is not set"),
        ("$A", {"A": "a"}, "at character 1: a variable is written ${NAME}, and a dollar itself $$"),
        ("x$", {}, "at character 2: a variable is written ${NAME}"),
        ("$(cat key)", {}, "at character 1: a variable is written ${NAME}"),
        ("$$$", {}, "at character 3: a variable"),
        ("ab${ A }", {"A": "a"}, "at character 3: expected the name of a variable right after ${"),
        ("${}", {}, "expected the name of a variable right after ${"),
        ("${1}", {}, "expected the name of a variable right after ${"),
        ("${A.B}", {}, "expected } or one of :- - :+ + :? ? after the name"),
        ("${A:d}", {}, "expected } or one of :- - :+ + :? ? after the name"),
        ("${A", {"A": "a"}, "expected } or one of"),
        ("${A:-b", {}, "a reference ${...} has no end: expected }"),
        ("${A:-${B}", {"B": "b"}, "a reference ${...} has no end: expected }"),
        ("${A:-" * 17 + "}" * 17, {}, "references stand within one another more than 16 deep"),
        ("${A:-" * 100_000, {}, "references stand within one another more than 16 deep"),
    ],
)
def test_what_is_half_a_reference_is_refused(text: str, env: dict[str, str], message: str) -> None:
    with pytest.raises(interpolation.Refused) as refused:
        expanded(text, **env)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    "text",
    [
        "$K", "$(cat /run/key)", "${K", "${ K }", "${K!}", "$env:K", "pa$word", "os.environ/K", "os.environ[\"K\"]",
        "os.getenv(K)", "process.env.K", "env:K", "ENV:K", "env.K", "env/K", "!env K", "environment:K", "{{K}}",
        "{{ env.K }}", "Bearer {{K}}", "{K}", "{env:K}", "{$K}", "%K%", "<K>", "<%= K %>", "`cat key`", "file:/run/key",
        "vault:secret/k", "vault://secret/k", "op://vault/item", "ref+awsssm://k", "secrets.K", "secret:K",
        "HEADGATE_API_KEY", "OPENAI_API_KEY", "MY_TOKEN", "${A:-env:K}", "${A:-$K}", "env:${A:-x}", "${A:-{{K}}}",
        "${A:-HEADGATE_API_KEY}",
    ],
)  # fmt: skip
@pytest.mark.parametrize("where", ["server: {api_keys: [REF]}", "member"])
def test_a_key_that_would_be_public_text_is_refused_by_file_and_key(text: str, where: str) -> None:
    quoted = "'" + text.replace("'", "''") + "'"
    if where == "member":
        yaml, at = POOL.replace("}", f", api_key: {quoted}}}"), "`$.pool[0].api_key`"
    else:
        yaml, at = where.replace("REF", quoted) + "\n" + POOL, "`$.server.api_keys[0]`"
    with pytest.raises(ConfigError) as refused:
        config.parse(yaml, source="h.yaml", env={"K": "s"})
    assert str(refused.value).startswith("h.yaml: ")
    assert str(refused.value).endswith(f" - at {at}")


@pytest.mark.parametrize(
    "text",
    ["sk-proj-AbC_9-x", "hg_live_0123456789abcdef", "QUJDREVGRw==", "a b", "p%ss{w!", "KEY-1", "correct horse"],
)  # fmt: skip
def test_a_key_that_looks_like_a_key_stays(text: str) -> None:
    assert key_of(text) == text


def test_a_dollar_in_a_key_is_written_twice() -> None:
    assert key_of("pa$$word") == "pa$word"
    assert key_of("$${K}") == "${K}"


def test_a_real_key_of_any_form_comes_through_a_variable() -> None:
    assert key_of("${K}", K="os.environ/$X {{y}}") == "os.environ/$X {{y}}"


@pytest.mark.parametrize("text", ["$K", "{{K}}", "%K%", "os.environ/K", "env:K", "{env:K}", "`cat key`"])
def test_a_value_for_an_engine_s_environment_is_held_to_the_same(text: str) -> None:
    with pytest.raises(ConfigError, match=r"h\.yaml: .* - at `\$\.pool\[0\]\.env\.HF_TOKEN`"):
        config.parse(f"pool: [{{name: a, model: x, env: {{HF_TOKEN: '{text}'}}}}]", source="h.yaml", env={})


@pytest.mark.parametrize(
    "text", ["https://hub/x", "%(levelname)s {message}", "PCI_BUS_ID", '{"a": 1}', "env.name=prod", "file:///x", "<p>"]
)
def test_what_engines_environments_really_hold_stays(text: str) -> None:
    assert form_of(text, key=False) == ""


def test_elsewhere_a_dollar_alone_is_refused_but_in_what_vllm_reads() -> None:
    with pytest.raises(ConfigError, match=r"a variable is written \$\{NAME\}.* - at `\$\.server\.host`"):
        config.parse(f"server: {{host: $HOST}}\n{POOL}", env={"HOST": "h"})
    text = "pool: [{name: a, model: x, engine_args: {chat_template: '{{ m }} $x ${S}', hf_token: '${T}'}}]"
    member = config.parse(text, env={"S": "s", "T": "t"}).pool[0]
    assert member.engine_args == {"chat_template": "{{ m }} $x s", "hf_token": "t"}
    with pytest.raises(ConfigError, match=r"at `\$\.pool\[0\]\.engine_args\.hf_token`"):
        config.parse(text.replace("${T}", "$T"), env={"S": "s", "T": "t"})


def test_a_refusal_shows_nothing_of_the_secret() -> None:
    with pytest.raises(ConfigError) as refused:
        key_of("s3cr$t-value")
    assert "s3cr" not in str(refused.value)
    assert "t-value" not in str(refused.value)


def test_variables_of_keys_are_known_used_or_not() -> None:
    text = "server: {api_keys: ['${A:-${B}}', '${C:+${D}}']}\npool: [{name: a, model: '${M}', env: {X: '${E}'}}]"
    parsed = config.parse(text, env={"A": "a", "C": "c", "D": "d", "M": "m", "E": "e"})
    assert parsed.secret_variables == ("A", "B", "C", "D")


@pytest.mark.parametrize(("env", "shown"), [({"H": "a\udcff"}, "half a character"), ({"H": "a\0"}, "a zero byte")])
def test_a_variable_that_is_no_text_is_refused(env: dict[str, str], shown: str) -> None:
    with pytest.raises(ConfigError, match=rf"expected text, got .*{shown}.* - at `\$\.server\.host`"):
        config.parse(f"server: {{host: '${{H}}'}}\n{POOL}", env=env)


def test_what_is_no_reference_at_all_names_no_secret() -> None:
    for text in ("sk-1", "$K", "${K", "a${K}", "${K}${L}", ""):
        with pytest.raises(ConfigError, match=r"option api_key: expected \$\{NAME\}"):
            config.from_environment(text, "option api_key", {"K": "k", "L": "l"})
    assert config.from_environment("${K}", "x", {"K": "k"}) == "k"
    with pytest.raises(ConfigError, match="option api_key: environment variable 'K' is not set"):
        config.from_environment("${K}", "option api_key", {})
