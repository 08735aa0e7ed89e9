"""`replicas` of a member: as many members, each an engine; one name for all of them; what is refused."""

from typing import Any

import msgspec
import pytest

from router import config
from router.config import Config, Member, by_engine, expanded, groups, models
from router.errors import ConfigError

LARGE = {"name": "large", "model": "y"}


def built(*pool: dict[str, Any], **branches: Any) -> Config:
    return config.build({"pool": [{"model": "x", **member} for member in pool], **branches}, source="h.yaml")


def refused(*pool: dict[str, Any]) -> str:
    with pytest.raises(ConfigError) as error:
        built(*pool)
    return str(error.value)


def test_so_many_engines_become_as_many_members_which_differ_in_their_names_alone() -> None:
    pool = built({"name": "small", "replicas": 3, "also": ["mini"], "engine_args": {"seed": 1}}, LARGE).pool
    assert [(member.name, member.replica_of, member.replicas) for member in pool] == [
        ("small/0", "small", 1), ("small/1", "small", 1), ("small/2", "small", 1), ("large", "", 1)
    ]  # fmt: skip
    first, *others = (msgspec.structs.replace(member, name="") for member in pool[:3])
    assert all(other == first for other in others)
    assert (first.engine_args, first.also) == ({"seed": 1}, ("mini",))


@pytest.mark.parametrize(
    ("replicas", "devices"),
    [
        ([0, 1], [(0,), (1,)]),
        ([[0, 1], [2, 3]], [(0, 1), (2, 3)]),
        (["GPU-a", [5]], [("GPU-a",), (5,)]),
        ([3], [(3,)]),
    ],
)
def test_a_list_gives_the_devices_of_each_engine(replicas: Any, devices: list[tuple[int | str, ...]]) -> None:
    pool = built({"name": "small", "replicas": replicas}).pool
    assert [config.device_names(member) for member in pool] == [tuple(map(str, each)) for each in devices]


def test_one_engine_is_the_member_itself() -> None:
    for replicas in (1, "1"):
        assert built({"name": "small", "replicas": replicas}).pool == (Member(name="small", model="x"),)


def test_a_variable_may_say_how_many() -> None:
    text = "pool: [{name: small, model: x, replicas: '${N}'}]"
    assert [member.name for member in config.parse(text, env={"N": "2"}).pool] == ["small/0", "small/1"]


def test_where_references_stood_is_told_of_each_engine() -> None:
    text = "pool: [{name: a, model: x}, {name: b, model: x, replicas: 2, env: {K: '${V}'}}, {name: c, model: '${V}'}]"
    made = config.parse(text, env={"V": "v"})
    assert made.expanded_at == ("$.pool[1].env.K", "$.pool[2].env.K", "$.pool[3].model")


def test_models_are_told_once_under_their_own_names_wherever_their_engines_stand() -> None:
    pool = built({"name": "small", "replicas": 11}, LARGE).pool
    mixed = (pool[10], pool[-1], *pool[:10])
    assert [(member.name, member.replica_of) for member in models(mixed)] == [("small", ""), ("large", "")]
    assert groups(mixed) == ((*range(2, 12), 0), (1,))
    assert by_engine(mixed, ("s", "l")) == ("s", "l", *"s" * 10)


def test_what_is_expanded_stays_the_same() -> None:
    made = built({"name": "small", "replicas": 2}, LARGE)
    assert expanded(made) is made
    config.check(made, "h.yaml")


@pytest.mark.parametrize(
    ("member", "message"),
    [
        ({"replicas": 0}, "expected 1 to 1,000, got 0 - at `$.pool[0].replicas`"),
        ({"replicas": 1_001}, "expected 1 to 1,000, got 1001 - at `$.pool[0].replicas`"),
        ({"replicas": []}, "expected a number of engines, or the devices of each of up to 1,000, got 0 - at"),
        ({"replicas": "two"}, "- at `$.pool[0].replicas`"),
        ({"replicas": [0, "cuda:1"]}, "got 'cuda:1' - at `$.pool[0].replicas[1]`"),
        ({"replicas": [[0, 0]]}, "the device 0 stands twice - at `$.pool[0].replicas[0]`"),
        ({"replicas": [[]]}, "expected at least one device"),
        ({"replicas": [0, 1], "devices": [2]}, "give `devices`, or those of each engine in `replicas`, not both"),
        ({"replicas": [[0, 1]], "engine_args": {"tensor_parallel_size": 1}}, "needs 1 device, got 2 - at"),
        ({"replicas": 2, "kind": "openai", "url": "http://h", "model": ""}, "only an engine has this; this member is"),
        ({"replica_of": "large"}, "unknown key 'replica_of' - at `$.pool[0]`"),
    ],
)
def test_what_makes_no_engines_is_refused_with_its_key(member: dict[str, Any], message: str) -> None:
    assert message in refused({"name": "small", **member})


@pytest.mark.parametrize("other", [{"name": "small/1"}, {"name": "b", "also": ["small/0"]}])
def test_a_member_that_is_called_as_an_engine_of_another_is_refused(other: dict[str, Any]) -> None:
    message = refused({"name": "small", "replicas": 2}, other)
    assert "is one of the engines of 'small', and the name of another member; names must differ" in message


def test_two_models_may_not_have_one_name_though_one_has_several_engines() -> None:
    assert "two members are named 'small'" in refused({"name": "small", "replicas": 2}, {"name": "small"})


def test_a_member_that_is_added_to_a_running_pool_is_held_to_the_same() -> None:
    pool = config.build_member({"name": "small", "model": "x", "replicas": 2}, source="the change").pool
    assert [member.name for member in pool] == ["small/0", "small/1"]
    with pytest.raises(ConfigError, match=r"the change: expected 1 to 1,000, got 5000 - at `\$\.pool\[0\]\.replicas`"):
        config.build_member({"name": "small", "model": "x", "replicas": 5_000}, source="the change")
