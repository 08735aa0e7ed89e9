"""`routing.rules`: what a file may say, and rules that contradict or can never act are refused with their place."""

import pytest

from router import config
from router.config import When
from router.config.rule_checks import covers
from router.errors import ConfigError

POOL = """
pool:
- {name: small, model: org/s}
- {name: large, model: org/l, also: [big]}
- {name: cloud, kind: openai, url: "http://h/v1"}
"""


def parsed(rules: str, more: str = "") -> config.Config:
    return config.parse(f"{POOL}\nrouting: {{rules: [{rules}]}}\n{more}", source="h.yaml")


def test_a_rule_of_every_signal_and_every_act_is_read() -> None:
    rule = parsed(
        r"""{name: all, when: {of: all, words: [tax], pattern: "a$", longer: 3, shorter: 900, foreign: .1,
        scripts: [greek], code: true, maths: false, intent: {examples: [my tax], least: .5}, personal: [iban, email],
        tokens_over: 10, tokens_under: 4000, tools: false, images: false, audio: false, headers: {x-team: [a, b]},
        header_patterns: {x-cost: "^[0-9]+$"}, sessions: ["s-*"], models: [auto]},
        local: true, forbid: [big], route: [small], prefer: {small: .1}, choice: cascade}"""
    ).routing.rules[0]
    assert (rule.when.pattern, rule.when.header_patterns) == ("a$", {"x-cost": "^[0-9]+$"})
    assert (rule.forbid, rule.choice, rule.prefer) == (("big",), "cascade", {"small": 0.1})


WORD = "words: [tax]"


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ("{name: a, when: {}, pin: small}", "expected at least one signal: words, pattern"),
        (
            "{name: a, when: {of: all, tools: true}, pin: small}",
            "no signal is of a text - at `$.routing.rules[0].when.of`",
        ),
        (f"{{name: a, when: {{{WORD}}}}}", "expected one of pin, forbid, local, route, prefer, choice; got none"),
        (f"{{name: a b, when: {{{WORD}}}, local: true}}", "expected 1 to 64 letters, digits"),
        (
            f"{{name: a, when: {{{WORD}}}, local: true}}, {{name: a, when: {{tools: true}}, local: true}}",
            "two rules are",
        ),
        (
            f"{{name: a, when: {{{WORD}}}, pin: lrge}}",
            "expected a member, one of small, large, big, cloud (did you mean",
        ),
        (f"{{name: a, when: {{{WORD}}}, forbid: [x]}}", "got 'x' - at `$.routing.rules[0].forbid`"),
        (f"{{name: a, when: {{{WORD}}}, prefer: {{small: 2}}}}", "expected quality points from -1 to 1 that are"),
        (
            "{name: a, when: {longer: 5, shorter: 6}, pin: small}",
            "no size is less than 6 and more than 5: it can never",
        ),
        ("{name: a, when: {tokens_under: 0}, pin: small}", "no size is less than 0: it can never hold"),
        ("{name: a, when: {foreign: 2}, pin: small}", "expected a share above 0 and up to 1"),
        ("{name: a, when: {words: [' ']}, pin: small}", "expected texts that are not empty"),
        ("{name: a, when: {intent: {examples: []}}, pin: small}", "expected at least one example, got none"),
        ("{name: a, when: {personal: [mail]}, local: true}", "expected one of email, phone, card, iban, ssn, ip"),
        ("{name: a, when: {keys: [00000000]}, local: true}", "no API key is configured: it can never hold"),
        ("{name: a, when: {headers: {X-Team: a}}, local: true}", "expected a header's name in lower case"),
        (
            "{name: a, when: {toolz: true}, local: true}",
            "unknown key 'toolz' - at `$.routing.rules[0].when`; did you mean",
        ),
        # acts that contradict
        (
            f"{{name: a, when: {{{WORD}}}, pin: large, forbid: [big]}}",
            "it pins 'large', which its own `forbid` rules out",
        ),
        (f"{{name: a, when: {{{WORD}}}, pin: cloud, local: true}}", "it pins 'cloud', which its own `local` rules out"),
        (f"{{name: a, when: {{{WORD}}}, pin: large, route: [small]}}", "it pins one member"),
        (f"{{name: a, when: {{{WORD}}}, route: [cloud], local: true}}", "its own `local` rules out all of these"),
        (
            f"{{name: a, when: {{{WORD}}}, prefer: {{cloud: .1}}, local: true}}",
            "it prefers 'cloud', which its own `local`",
        ),
        (
            f"{{name: a, when: {{{WORD}, tools: true}}, pin: cloud}}, {{name: b, when: {{{WORD}}}, local: true}}",
            "rule 'b' holds whenever this one does, and forbids what it chooses - at `$.routing.rules[0].pin`",
        ),
        # rules in the shadow of others
        (
            f"{{name: a, when: {{{WORD}}}, pin: small}}, {{name: b, when: {{{WORD}, tools: true}}, pin: large}}",
            "it can never act: rule 'a', before it, holds whenever this one does, and pins 'small' - "
            "at `$.routing.rules[1]`",
        ),
        (
            "{name: a, when: {words: [tax, vat]}, pin: small}, {name: b, when: {words: [vat]}, prefer: {large: .1}}",
            "it can never act: rule 'a', before it",
        ),
    ],
)
def test_a_rule_that_is_wrong_or_can_never_act_is_refused_with_its_place(rules: str, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parsed(rules)
    assert why in str(refused.value)
    assert str(refused.value).startswith("h.yaml: ")


@pytest.mark.parametrize(
    "rules",
    [
        # the stronger condition stands first
        f"{{name: a, when: {{{WORD}, tools: true}}, pin: small}}, {{name: b, when: {{{WORD}}}, pin: large}}",
        # what it forbids counts beside the pin before it
        f"{{name: a, when: {{{WORD}}}, pin: small}}, {{name: b, when: {{{WORD}}}, local: true}}",
        # the pin before it can be forbidden
        f"{{name: a, when: {{{WORD}}}, pin: cloud}}, {{name: b, when: {{{WORD}}}, pin: small}}, "
        "{name: c, when: {tools: true}, local: true}",
    ],
)
def test_rules_that_can_act_stand_beside_one_another(rules: str) -> None:
    assert len(parsed(rules).routing.rules) >= 2


def test_a_rule_names_keys_by_their_ids() -> None:
    server = 'server: {api_keys: ["secret"]}'
    id = config.key_id("secret")
    assert parsed(f"{{name: a, when: {{keys: ['{id}']}}, local: true}}", server).routing.rules[0].when.keys == (id,)
    with pytest.raises(ConfigError, match="expected the id of a configured key"):
        parsed("{name: a, when: {keys: [secret]}, local: true}", server)


@pytest.mark.parametrize(
    ("weaker", "stronger", "does"),
    [
        (When(words=("a", "b")), When(words=("a",)), True),
        (When(words=("a",)), When(words=("a", "b")), False),
        (When(tokens_over=10), When(tokens_over=11, tools=True), True),
        (When(shorter=10), When(shorter=11), False),
        (When(of="all", words=("a",)), When(of="last", words=("a",)), True),
        (When(of="last", words=("a",)), When(of="all", words=("a",)), False),
        (When(headers={"x": ("a", "b")}), When(headers={"x": "a", "y": "c"}), True),
        (When(headers={"x": "*"}), When(headers={"x": "a"}), True),
        (When(headers={"x": "a"}), When(headers={"y": "a"}), False),
        (When(code=True), When(code=False), False),
        (When(models=("router-*",)), When(models=("router-mf-0.5",)), True),
    ],
)
def test_one_condition_covers_another_where_it_holds_whenever_that_does(
    weaker: When, stronger: When, does: bool
) -> None:
    assert covers(weaker, stronger) is does
