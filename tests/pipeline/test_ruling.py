"""Rules of the config, in a pool of two engines and a URL: which signals hold, and what is done then."""

import json
from collections.abc import Sequence
from typing import Any

import pytest

from router.config import Config, Intent, Member, Routing, Rule, When
from router.errors import ConfigError, EngineFailed, Forbidden, NoEngine, RouterError
from router.pipeline import ruling
from router.pipeline.router import Router
from router.pipeline.ruling import Rules
from router.pool.base import Failure
from router.types import Query, Turn
from tests.conftest import until

POOL = (
    Member(name="small", model="org/s"),
    Member(name="large", model="org/l"),
    Member(name="cloud", kind="openai", url="http://h/v1"),
)
DIED = Failure(EngineFailed("the engine died"), retryable=True)


def asked(text: str = "hello", *earlier: Turn, **fields: Any) -> Query:
    return Query(kind="chat", model=fields.pop("model", "auto"), turns=(*earlier, Turn("user", text)), **fields)


def held(when: When, query: Query, body: bytes = b"", tokens: int = 10) -> bool:
    ruled, _ = Rules([Rule(name="r", when=when, local=True)], POOL).said(query, body, tokens)
    return ruled is not None


SYSTEM = Turn("system", "You know all about taxes.")


@pytest.mark.parametrize(
    ("when", "query", "does"),
    [
        (When(words=("tax", "duty")), asked("My TAX, please"), True),
        (When(words=("tax",)), asked("taxonomy"), False),
        (When(words=("taxes",)), asked("hello", SYSTEM), False),
        (When(words=("taxes",), of="system"), asked("hello", SYSTEM), True),
        (When(words=("taxes",), of="all"), asked("hello", SYSTEM), True),
        (When(words=("tax",), of="user"), asked("more", Turn("user", "tax")), True),
        (When(words=("tax",)), asked("more", Turn("user", "tax")), False),
        (When(words=("tax",), longer=5, of="all"), asked("a longer text", Turn("user", "tax")), False),
        (When(longer=4, shorter=6), asked("hello"), True),
        (When(foreign=0.5), asked("привет, мир"), True),
        (When(scripts=("greek", "cyrillic")), asked("it is привет, мир"), True),
        (When(scripts=("han",)), asked("hello"), False),
        (When(code=True), asked("def f(x): return x"), True),
        (When(code=False), asked("def f(x): return x"), False),
        (When(maths=True), asked("what is x^2 + 1"), True),
        (When(tools=True), asked(needs=frozenset({"chat", "tools"})), True),
        (When(tools=False), asked(needs=frozenset({"chat", "tools"})), False),
        (When(images=True), asked(needs=frozenset({"vision"})), True),
        (When(tokens_over=9, tokens_under=11), asked(), True),
        (When(tokens_over=10), asked(), False),
        (When(keys=("0a0a0a0a",)), asked(key_id="0a0a0a0a"), True),
        (When(keys=("0a0a0a0a",)), asked(), False),
        (When(sessions=("batch-*",)), asked(session_id="batch-7"), True),
        (When(models=("router-*",)), asked(model="router-mf-0.5"), True),
        (When(models=("router-*",)), asked(), False),
        (When(headers={"x-team": ("law", "hr")}), asked(headers={"x-team": "hr"}), True),
        (When(headers={"x-team": "*"}), asked(headers={"x-team": "any"}), True),
        (When(headers={"x-team": "law"}), asked(), False),
    ],
)
def test_a_rule_holds_where_all_its_signals_do(when: When, query: Query, does: bool) -> None:
    assert held(when, query) is does


def test_an_intent_holds_for_texts_near_to_one_of_its_examples() -> None:
    when = When(intent=Intent(examples=("How do I reset my password?", "I cannot log in to my account"), least=0.6))
    assert held(when, asked("how can I reset the password of my account"))
    assert not held(when, asked("Write a poem about the sea in spring."))


def test_a_pattern_holds_where_it_finds_something_and_one_that_is_none_is_refused_with_its_place() -> None:
    pytest.importorskip("re2")
    assert held(When(pattern="^invoice [0-9]+$"), asked("Invoice 17"))
    assert not held(When(pattern="^invoice [0-9]+$"), asked("no invoice 17"))
    assert held(When(header_patterns={"x-cost": "^4[0-9]"}), asked(headers={"x-cost": "417"}))
    with pytest.raises(ConfigError, match=r"\$\.routing\.rules\[0\]\.when\.pattern: expected a regular expression"):
        held(When(pattern="("), asked())


CARD = "4111 1111 1111 1111"


def body(text: str, **fields: Any) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}], **fields}).encode()


@pytest.mark.parametrize(
    ("query", "data", "does"),
    [
        (asked(), body("hello"), False),
        (asked(), body(CARD), True),
        (asked(), body("hello", tools=[{"function": {"description": f"for {CARD}"}}]), True),
        (asked(CARD), b"", True),
        # what cannot be read as text counts as such
        (asked(token_ids=3), body("hello"), True),
        (asked(), b"--form\r\n", True),
        (Query(kind="embeddings", model="auto", turns=()), json.dumps({"input": [CARD]}).encode(), True),
        (Query(kind="detokenize", model="auto", turns=()), b'{"tokens": [1]}', True),
    ],
)
def test_personal_data_are_found_wherever_they_stand(query: Query, data: bytes, does: bool) -> None:
    assert held(When(personal=("card",)), query, data) is does


TAX = When(words=("tax",))


def router(kit: Any, rules: Sequence[Rule], quality: Sequence[float] = (0.4, 0.6, 0.8), **routing: Any) -> Any:
    members = [kit.Member(member.name) for member in POOL]
    settings = Config(pool=POOL, routing=Routing(price=0.0, rules=tuple(rules), **routing))
    made = Router(settings, pool=members, scoring=kit.Scoring(*quality))
    return made, members


def submitted(kit: Any, rules: Sequence[Rule], text: str = "my tax", **fields: Any) -> Any:
    made, members = router(kit, rules)
    sink = kit.Sink()
    made.submit(asked(text, needs=frozenset({"chat"}), **fields), body(text), sink)
    return next(member for member in members if member.calls), members, sink, made


@pytest.mark.parametrize(
    ("acts", "model"),
    [
        ({"pin": "small"}, "small"),
        ({"forbid": ("cloud",)}, "large"),
        ({"local": True}, "large"),
        ({"route": ("small", "large")}, "large"),
        ({"prefer": {"small": 0.5}}, "small"),
        ({"prefer": {"cloud": -0.1, "large": 0.15}}, "large"),
    ],
)
def test_what_a_rule_that_holds_does_to_the_choice(kit: Any, acts: dict[str, Any], model: str) -> None:
    member, _, sink, _ = submitted(kit, [Rule(name="r", when=TAX, **acts)])
    assert member.name == model
    member.calls[0].chunk(b"a")
    assert sink.decision.reason == "rule; r"
    member, *_ = submitted(kit, [Rule(name="r", when=TAX, **acts)], "something else")
    assert member.name == "cloud"


def test_the_terms_name_those_that_rules_ruled_out_and_hold_the_points(kit: Any) -> None:
    rules = [Rule(name="a", when=TAX, local=True), Rule(name="b", when=TAX, prefer={"small": 0.25})]
    member, _, sink, _ = submitted(kit, rules)
    member.calls[0].chunk(b"a")
    assert sink.decision.reason == "rule; a, b"
    assert [(term.excluded, round(term.quality, 6)) for term in sink.decision.terms] == [
        (None, 0.65), (None, 0.6), ("rule", 0.8),
    ]  # fmt: skip


def test_of_several_rules_the_first_pin_counts_what_is_forbidden_is_never_chosen_and_points_add_up(kit: Any) -> None:
    first, second = Rule(name="a", when=TAX, pin="small"), Rule(name="b", when=When(shorter=99), pin="large")
    assert submitted(kit, [first, second])[0].name == "small"
    cloud = Rule(name="c", when=TAX, pin="cloud")
    assert submitted(kit, [cloud, Rule(name="d", when=When(shorter=99), local=True)])[0].name == "large"
    more = [Rule(name=name, when=TAX, prefer={"small": 0.25}) for name in "ef"]
    assert submitted(kit, more)[0].name == "small"


def test_a_member_that_is_asked_for_by_name_answers_unless_it_is_forbidden(kit: Any) -> None:
    assert submitted(kit, [Rule(name="r", when=TAX, pin="small")], model="large")[0].name == "large"
    with pytest.raises(Forbidden, match=r"rules of this server \(r\) forbid model 'cloud' for this request"):
        submitted(kit, [Rule(name="r", when=TAX, local=True)], model="cloud")


def test_a_request_that_rules_leave_no_model_is_refused(kit: Any) -> None:
    with pytest.raises(Forbidden, match=r"rules of this server \(r\) leave no model for this request") as refused:
        submitted(kit, [Rule(name="r", when=TAX, forbid=("small", "large", "cloud"))])
    assert (refused.value.status, refused.value.code) == (403, "rules")


def test_a_retry_goes_to_none_that_is_forbidden(kit: Any) -> None:
    rules = [Rule(name="r", when=TAX, local=True), Rule(name="s", when=TAX, forbid=("small",))]
    large, members, sink, _ = submitted(kit, rules)
    assert large.name == "large"
    large.calls[0].receiver.fail(DIED)
    assert isinstance(sink.end, EngineFailed)
    assert [len(member.calls) for member in members] == [0, 1, 0]


def test_one_whose_local_members_are_down_goes_nowhere_else(kit: Any) -> None:
    made, members = router(kit, [Rule(name="pii", when=When(personal=("card",)), local=True)])
    for member in members[:2]:
        member.phase = "stopped"
    with pytest.raises(NoEngine):
        made.submit(asked(CARD, needs=frozenset({"chat"})), body(CARD), kit.Sink())
    assert not members[2].calls


def test_a_rule_that_raises_ends_the_request_and_nothing_is_sent(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> bool:
        raise ZeroDivisionError

    made, members = router(kit, [Rule(name="pii", when=When(personal=("card",)), local=True)])
    monkeypatch.setattr(ruling.personal, "found", broken)
    with pytest.raises(RouterError, match="internal error; the server's log says more"):
        made.submit(asked(needs=frozenset({"chat"})), body("hello"), kit.Sink())
    assert not any(member.calls for member in members)
    assert made.in_flight() == 0


def test_the_reason_is_pinned_where_the_member_asked_for_by_name_is_allowed(kit: Any) -> None:
    member, _, sink, _ = submitted(kit, [Rule(name="r", when=TAX, local=True, prefer={"small": 0.1})], model="large")
    member.calls[0].chunk(b"a")
    assert (member.name, sink.decision.reason) == ("large", "pinned")


async def test_a_long_body_is_read_in_a_thread_and_what_it_holds_is_found(kit: Any) -> None:
    made, members = router(kit, [Rule(name="pii", when=When(personal=("card",)), local=True)])
    made.submit(asked(needs=frozenset({"chat"})), body("a" * ruling.LONG_BODY_BYTES + f" {CARD}"), kit.Sink())
    assert not any(member.calls for member in members)
    await until(lambda: members[1].calls)
    assert not members[2].calls


async def test_a_rule_that_raises_in_a_thread_ends_the_request_there(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made, members = router(kit, [Rule(name="pii", when=When(personal=("card",)), local=True)])
    monkeypatch.setattr(ruling.personal, "found", lambda *_: 1 / 0)
    sink = kit.Sink()
    made.submit(asked(needs=frozenset({"chat"})), body("a" * ruling.LONG_BODY_BYTES), sink)
    await until(lambda: sink.end is not None)
    assert str(sink.end) == "internal error; the server's log says more"
    assert not any(member.calls for member in members)


@pytest.mark.parametrize(("said", "choice"), [("", "cascade"), ("before", "before")])
def test_when_models_are_chosen_is_a_rules_where_neither_header_nor_key_says(kit: Any, said: Any, choice: str) -> None:
    *_, made = submitted(kit, [Rule(name="r", when=TAX, choice="cascade")], choice=said)
    (request,) = made._requests
    assert request.query.choice == choice


def test_rules_are_read_again_and_a_pattern_that_is_none_changes_nothing(kit: Any) -> None:
    made, _ = router(kit, [Rule(name="r", when=TAX, pin="small")])
    made.reload(Routing(price=0.0, rules=(Rule(name="s", when=TAX, pin="large", choice=None),)))
    assert made.decide("my tax").model == "large"
    with pytest.raises(ConfigError):
        made.reload(Routing(price=0.0, rules=(Rule(name="t", when=When(pattern="("), pin="small"),)))
    assert made.decide("my tax").model == "large"
    assert made.rule_headers == frozenset()
    made.reload(Routing(price=0.0))
    assert made.decide("my tax").model == "cloud"
