"""What a request's `model` means, and when it may be left open."""

import json
from typing import Any

import pytest

from router.config import Config, Limits, Member, Routing
from router.dialects.decode import decode
from router.errors import BadRequest, ModelNotFound
from router.pipeline.model_names import Names
from router.pipeline.router import Router
from router.types import Adapter, Query

IDS: list[tuple[Any, dict[str, Any], str]] = [
    ("completions", {"prompt": [1, 2]}, "prompt"),
    ("completions", {"prompt": [[1], [2]]}, "prompt"),
    ("detokenize", {"tokens": [1]}, "tokens"),
]
ROUTES = ("auto", "headgate/auto", "router-mf-0.5", None)
ONE = [Member(name="a", model="/models/x")]
SAME = [Member(name="a", model="/models/x"), Member(name="b", model="/models/x")]
OTHER = [Member(name="a", model="/models/x"), Member(name="b", model="/models/y")]


def names(pool: list[Member]) -> Names:
    return Names(pool, Routing(), Limits(), strong=len(pool) - 1, weak=0)


def query(kind: Any, body: dict[str, Any], model: str | None) -> Query:
    return decode(kind, json.dumps({**body, "model": model}).encode())


@pytest.mark.parametrize(("kind", "body", "param"), IDS)
@pytest.mark.parametrize("model", ROUTES)
def test_token_ids_need_a_model_where_vocabularies_differ(
    kind: Any, body: dict[str, Any], param: str, model: str | None
) -> None:
    with pytest.raises(BadRequest, match=f"`{param}` holds token ids, .* name that model in `model`") as error:
        names(OTHER).settings_of(query(kind, body, model))
    assert error.value.param == param
    assert names(OTHER).settings_of(query(kind, body, "b")).pinned == 1


@pytest.mark.parametrize(("kind", "body", "param"), IDS)
@pytest.mark.parametrize("model", ROUTES)
@pytest.mark.parametrize("pool", [ONE, SAME], ids=["one", "same"])
def test_token_ids_need_none_in_one_vocabulary(
    kind: Any, body: dict[str, Any], param: str, model: str | None, pool: list[Member]
) -> None:
    asked = query(kind, body, model)
    assert names(pool).settings_of(asked) == names(pool).settings(asked.model)


def test_a_model_that_is_not_there_is_refused_as_such() -> None:
    with pytest.raises(ModelNotFound, match="did you mean 'a'"):
        names(ONE).settings_of(query("completions", {"prompt": [1]}, "aa"))


@pytest.mark.parametrize("model", ["auto", None])
async def test_a_pool_of_one_model_takes_token_ids_without_a_name(kit: Any, model: str | None) -> None:
    pool = (Member(name="a", model="/models/x"), Member(name="b", model="/models/x"))
    members = [kit.Member("a"), kit.Member("b")]
    router = Router(Config(pool=pool, routing=Routing(price=0.0)), pool=members, scoring=kit.Scoring(0.4, 0.8))
    sink = kit.Sink()
    router.submit(query("completions", {"prompt": [1, 2]}, model), b"{}", sink)
    assert len(members[1].calls) == 1


class ManyAdapters:
    """Ten thousand, of one member."""

    there = [Adapter(f"customer-{i}-adapter-v{i % 7}", "/x") for i in range(10_000)]

    def at(self, name: str) -> int | None:
        return 0 if any(adapter.name == name for adapter in self.there) else None

    def of(self, member: int) -> list[Adapter]:
        return self.there

    def names(self) -> list[str]:
        return [adapter.name for adapter in self.there]


def test_of_ten_thousand_adapters_a_refusal_names_a_few_and_how_many_more_there_are() -> None:
    pool = (Member(name="small", model="x"),)
    names = Names(pool, Routing(), Limits(), strong=0, weak=0, adapters=ManyAdapters())
    with pytest.raises(ModelNotFound) as refused:
        names.settings("customer-77-adaptr-v3")
    message = str(refused.value)
    assert message.startswith("model 'customer-77-adaptr-v3' does not exist; did you mean 'customer-")
    assert message.endswith("customer-31-adapter-v3 and 9968 more adapters")
    assert names.settings("customer-9999-adapter-v3").pinned == 0


def test_of_ten_thousand_members_a_refusal_lists_and_compares_a_bounded_number(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compared: list[int] = []
    monkeypatch.setattr(
        "router.pipeline.model_names.difflib.get_close_matches", lambda _, names, **__: compared.append(len(names))
    )
    known = names([Member(name=f"m{i}", model="/models/x") for i in range(10_000)])
    with pytest.raises(ModelNotFound) as error:
        known.settings("other")
    assert error.value.message.startswith("model 'other' does not exist; there are auto, m0, m1, ")
    assert error.value.message.endswith(", m30 and 9969 more")
    assert compared == [32]
