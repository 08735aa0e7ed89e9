"""Routes that one member answers whole: who is asked, and what is said where nobody can be."""

from typing import Any

import pytest

from router.config import Config, Member
from router.dialects.invocations import kind_of
from router.errors import BadRequest, NoEngine, RouterError
from router.ipc.messages import Done
from router.observe.record import Record
from router.pipeline.adapters import ConfiguredAdapters
from router.pipeline.router import Router
from router.pipeline.whole import abilities_of
from router.types import Kind, Query, Usage

CHATS = frozenset({"chat", "completions", "messages", "chat_batch", "generative_scoring"})
EMBEDS = frozenset({"embeddings", "pooling", "score", "rerank"})
CLASSIFIES = frozenset({"classify", "pooling"})


def query(kind: Kind, model: str = "auto") -> Query:
    return Query(kind=kind, model=model, turns=(), needs=frozenset({kind}))


def pool(kit: Any, *members: tuple[str, frozenset[str]], pooling: tuple[str, ...] = (), **config: Any) -> Router:
    """`pooling`: members whose arguments say so."""
    made = [kit.Member(name, capabilities=able) for name, able in members]
    args = {name: {"runner": "pooling"} for name in pooling}
    settings = Config(
        pool=tuple(Member(name=name, model=f"org/{name}", engine_args=args.get(name, {})) for name, _ in members),
        **config,
    )
    return Router(settings, pool=made, scoring=kit.Scoring(*(0.5 for _ in members)))


def asked(router: Router, kit: Any, wanted: Query, body: bytes = b'{"input":"x"}') -> tuple[str, Any]:
    """Which member had it, and its sink."""
    sink = kit.Sink()
    router.submit(wanted, body, sink)
    (name,) = [member.name for member in router.pool if member.calls]  # type: ignore[attr-defined]
    return name, sink


MIXED = (("small", CHATS), ("emb", EMBEDS), ("classes", CLASSIFIES))


@pytest.mark.parametrize(
    ("kind", "model", "member"),
    [
        ("embeddings", "auto", "emb"),
        ("embeddings", "emb", "emb"),
        ("embeddings", "org/emb", "emb"),
        ("rerank", "auto", "emb"),
        ("classify", "headgate/auto", "classes"),
        ("pooling", "classes", "classes"),
        ("generative_scoring", "auto", "small"),
    ],
)
def test_the_named_member_or_the_only_one_that_can_is_asked(kit: Any, kind: Kind, model: str, member: str) -> None:
    router = pool(kit, *MIXED, pooling=("emb", "classes"))
    scored: list[Query] = router._decider.scoring.asked  # type: ignore[attr-defined]
    scored.clear()
    assert asked(router, kit, query(kind, model))[0] == member
    assert scored == []


@pytest.mark.parametrize(
    ("kind", "model", "message"),
    [
        ("embeddings", "small", "model 'small' does not answer /v1/embeddings, but /v1/chat/completions, .*; emb can"),
        ("classify", "emb", "'emb' does not answer /classify, but /v1/embeddings, /pooling, /score, /rerank; classes"),
        ("pooling", "auto", "several models answer /pooling, and none .* name one in `model`: emb, classes"),
        ("tokenizer_info", "auto", "no model of the pool answers /tokenizer_info; there are small: /v1/chat/compl"),
        ("tokenizer_info", "emb", "does not answer /tokenizer_info, but .*; no model of the pool can"),
        ("chat", "emb", "model 'emb' does not answer /v1/chat/completions, but /v1/embeddings, .*; small can"),
        ("count_tokens", "emb", "model 'emb' does not answer /v1/messages/count_tokens, but .*; small can"),
        ("chat_batch", "emb", "model 'emb' does not answer /v1/chat/completions/batch, but .*; small can"),
    ],
)
def test_who_cannot_is_refused_with_what_it_does_and_who_could(kit: Any, kind: Kind, model: str, message: str) -> None:
    router = pool(kit, *MIXED, pooling=("emb", "classes"))
    with pytest.raises(BadRequest, match=message) as refused:
        router.submit(query(kind, model), b"{}", kit.Sink())
    assert refused.value.param == "model"
    assert router.in_flight() == 0


def test_a_batch_of_an_engine_that_has_no_such_route_is_refused_before_it_is_sent(kit: Any) -> None:
    router = pool(kit, ("old", frozenset({"chat", "completions"})))
    with pytest.raises(BadRequest, match="'old' does not answer /v1/chat/completions/batch, but /v1/chat/completions"):
        router.submit(query("chat_batch", "old"), b"{}", kit.Sink())


def test_a_pool_of_pooling_models_alone_serves_and_says_that_it_generates_no_text(kit: Any) -> None:
    router = pool(kit, ("emb", EMBEDS), pooling=("emb",))
    assert asked(router, kit, query("embeddings"))[0] == "emb"
    with pytest.raises(BadRequest, match=r"no model of the pool generates text; there are emb: /v1/embeddings, /pool"):
        router.submit(query("chat"), b"{}", kit.Sink())
    assert [card.id for card in router.models()] == ["auto", "emb"]


def test_a_member_that_has_not_started_yet_may_be_the_one(kit: Any) -> None:
    router = pool(kit, ("small", CHATS), ("emb", frozenset()), pooling=("emb",))
    with pytest.raises(NoEngine, match="no model that is up answers /v1/embeddings; others have not started"):
        router.submit(query("embeddings"), b"{}", kit.Sink())
    router.pool[1].phase = "starting"  # type: ignore[attr-defined]
    with pytest.raises(NoEngine, match="'emb' is not available now"):
        router.submit(query("embeddings", "emb"), b"{}", kit.Sink())


def test_usage_counts_and_no_length_is_learnt_from_it(kit: Any) -> None:
    router = pool(kit, ("small", CHATS), ("emb", EMBEDS), pooling=("emb",))
    sink = kit.Sink()
    ticket = router.submit(query("embeddings"), b'{"input":"x"}', sink)
    assert ticket.atypical
    call = router.pool[1].calls[0]  # type: ignore[attr-defined]
    assert call.work.kind == "embeddings"
    call.chunk(b'{"data":[]}')
    call.receiver.done(Done(id=1, usage=Usage(7, 0, 0)))
    assert (sink.chunks, sink.end.usage.prompt_tokens) == ([b'{"data":[]}'], 7)
    assert sink.decision.model == "emb"


def test_pooling_members_are_neither_strongest_nor_weakest(kit: Any) -> None:
    router = pool(kit, ("emb", EMBEDS), ("small", CHATS), ("large", CHATS), ("last", EMBEDS), pooling=("emb", "last"))
    auto = router._decider.names.settings("auto")
    assert (auto.strong, auto.weak) == (2, 1)


def test_what_an_engine_says_at_its_start_corrects_what_was_taken_of_it(kit: Any) -> None:
    router = pool(kit, ("small", CHATS), ("hub", EMBEDS))
    assert router._decider.names.settings("auto").strong == 1
    router._decider.told("hub", EMBEDS)
    assert router._decider.names.settings("auto").strong == 0
    with pytest.raises(BadRequest, match="'hub' does not answer /v1/chat/completions"):
        router.submit(query("chat", "hub"), b"{}", kit.Sink())
    router._decider.told("hub", CHATS)
    assert router._decider.names.settings("auto").strong == 1


def test_what_an_engine_says_at_its_start_reads_no_models_files(kit: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    router = pool(kit, ("small", CHATS), ("hub", EMBEDS))
    monkeypatch.setattr("router.config.pooling._folder_pools", lambda folder: pytest.fail(f"{folder} was read"))
    assert router._decider.told("hub", EMBEDS)
    assert router._decider.pooling == {1}


def test_a_tokenizer_left_open_is_that_of_a_model_that_generates(kit: Any) -> None:
    router = pool(kit, ("emb", EMBEDS), ("small", CHATS), pooling=("emb",))
    open_query = Query(kind="tokenize", model="auto", turns=())
    assert router._desk.settings_of(open_query).excluded == {0}
    assert asked(router, kit, open_query)[0] == "small"


def test_no_other_member_is_tried_when_the_named_one_fails(kit: Any) -> None:
    router = pool(kit, ("a", EMBEDS), ("b", EMBEDS), pooling=("a", "b"))
    router.pool[0].refusal = NoEngine("gone")  # type: ignore[attr-defined]
    with pytest.raises(RouterError, match="gone"):
        router.submit(query("embeddings", "a"), b"{}", kit.Sink())
    assert not router.pool[1].calls  # type: ignore[attr-defined]


def test_abilities_are_told_by_every_name(kit: Any) -> None:
    router = pool(kit, *MIXED, pooling=("emb", "classes"))
    states = [member.state() for member in router.pool]
    assert abilities_of(router._decider.names, states, ConfiguredAdapters(())) == (able := router.able())
    assert able["emb"] == able["org/emb"] == EMBEDS
    assert able["auto"] == CHATS | EMBEDS | CLASSIFIES


def test_an_adapter_can_do_what_its_member_can(kit: Any) -> None:
    router = pool(kit, *MIXED, pooling=("emb", "classes"))
    lora = {"enable_lora": True, "lora_modules": ["tone=/adapters/tone"]}
    members = (*router.config.pool[:2], Member(name="classes", model="m", engine_args=lora))
    states = [member.state() for member in router.pool]
    able = abilities_of(router._decider.names, states, ConfiguredAdapters(members))
    assert able["tone"] == CLASSIFIES
    assert kind_of(b'{"model":"tone","input":"x"}', able) == "classify"


async def test_the_record_has_prompt_tokens_no_output_and_what_the_prompt_cost(kit: Any) -> None:
    router = pool(kit, ("small", CHATS), ("emb", EMBEDS), pooling=("emb",))
    router.pool[1].fields |= {"prefill_tokens_per_s": 1000.0, "usd_per_s": 0.5}  # type: ignore[attr-defined]
    records: list[Record] = []
    router.ledger.subscribe(records.extend)
    router.submit(query("embeddings"), b'{"input":"x"}', kit.Sink())
    call = router.pool[1].calls[0]  # type: ignore[attr-defined]
    call.chunk(b"{}")
    call.receiver.done(Done(id=1, usage=Usage(7, 0, 0)))
    router.ledger.tell()
    (record,) = records
    assert (record.kind, record.model, record.end, record.asked) == ("embeddings", "emb", "finish", "auto")
    assert (record.prompt_tokens, record.completion_tokens, record.tpot_s) == (7, 0, None)
    assert (record.engine_s, record.cost_usd) == (pytest.approx(0.007), pytest.approx(0.0035))
    assert record.turns is None
    assert record.decision is not None
    assert record.decision.reason == "pinned"


async def test_a_canary_of_the_only_model_that_answers_is_no_second_choice_beside_it(kit: Any) -> None:
    router = pool(kit, ("chat", CHATS), ("embed", EMBEDS), ("embed-2", EMBEDS))
    router.pool[2].fields |= {"canary_of": 1, "canary_weight": 0.3}  # type: ignore[attr-defined]
    name, _ = asked(router, kit, query("embeddings"))
    assert name == "embed"
    name = router.decide(query("embeddings", "embed-2")).model
    assert name == "embed-2"
    await router.stop()


def test_of_a_thousand_members_that_cannot_a_refusal_lists_thirty_two(kit: Any) -> None:
    router = pool(kit, *((f"m{i}", frozenset({"chat"})) for i in range(1_000)))
    with pytest.raises(BadRequest, match=r"m31: /v1/chat/completions and 968 more$"):
        router.submit(query("embeddings"), b"{}", kit.Sink())
