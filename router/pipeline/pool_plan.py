"""What a pool is to become by one change: its members afterwards, and which of them go on as they are. Pure.

A member that does not go on is started anew; what runs and is not kept ends. Knows no engine.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from router.config import Member, engine_name, model_name, models
from router.errors import BadRequest, Conflict, ModelNotFound
from router.pipeline.listed import listed

Verb = Literal["add", "remove", "replace", "promote", "rollback", "reload"]
#: Keys that a member takes over while it runs; by any other another engine, or another upstream, is meant.
SOFT_KEYS = frozenset({"also", "like", "strength", "usd_per_hour", "gpu_share", "weight"})

Pool = Sequence[Member]


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """`pool` is as asked for, engine defaults not filled in."""

    what: Verb
    member: str  #: that the change is about; empty: the whole file
    pool: tuple[Member, ...]
    kept: Mapping[str, str]  #: name in `pool` -> the name that it has before
    stop_first: str = ""  #: a member that is stopped before another is started in its place


def add(pool: Pool, engines: Pool) -> Plan:
    """`engines`: of one model."""
    model = model_name(engines[0])
    if any(model in (each.name, model_name(each)) for each in pool):
        raise Conflict(f"there is a member {model!r} already; `replace` puts another in its place")
    return Plan(what="add", member=model, pool=(*pool, *engines), kept=_same(pool))


def remove(pool: Pool, name: str) -> Plan:
    gone = _named(pool, name)
    _require_no_canary(pool, name)
    left = tuple(member for member in pool if member not in gone)
    return Plan(what="remove", member=name, pool=left, kept=_same(left))


def replace(pool: Pool, name: str, engines: Pool, *, stop_first: bool = False) -> Plan:
    """`engines`, of one model, in the place of those of the one called `name`, under that name or another."""
    old = _named(pool, name)
    _require_no_canary(pool, name)
    model = model_name(engines[0])
    if model == name and not engines[0].also:
        engines = [msgspec.structs.replace(engine, also=old[0].also) for engine in engines]
    if old[0].replaces and not engines[0].replaces:
        canary, weight = old[0].replaces, old[0].weight
        engines = [msgspec.structs.replace(engine, replaces=canary, weight=weight) for engine in engines]
    left = tuple(each for each in pool if each not in old)
    if any(model in (each.name, model_name(each)) for each in left):
        raise Conflict(f"there is another member {model!r}")
    at = pool.index(old[0])
    before = [each for each in pool[:at] if each in left]
    after = (*before, *engines, *left[len(before) :])
    return Plan(what="replace", member=name, pool=after, kept=_same(left), stop_first=name if stop_first else "")


def promote(pool: Pool, name: str) -> Plan:
    """The canary of `name`, or called so, takes the place and the name of its member."""
    canaries = _canary(pool, name)
    old = _named(pool, canaries[0].replaces)
    model = model_name(old[0])
    heirs = {_renamed(each, model): each for each in canaries}
    made = [
        msgspec.structs.replace(
            each,
            name=heir,
            replica_of=model if each.replica_of else "",
            also=each.also or old[0].also,
            replaces="",
            weight=old[0].weight,
        )
        for heir, each in heirs.items()
    ]
    left = [member for member in pool if member not in canaries and member not in old]
    before = [each for each in pool[: pool.index(old[0])] if each in left]
    kept = {**_same(left), **{heir: each.name for heir, each in heirs.items()}}
    return Plan(what="promote", member=model, pool=(*before, *made, *left[len(before) :]), kept=kept)


def roll_back(pool: Pool, name: str) -> Plan:
    """The canary of `name`, or called so, goes."""
    canaries = _canary(pool, name)
    left = tuple(member for member in pool if member not in canaries)
    return Plan(what="rollback", member=canaries[0].replaces, pool=left, kept=_same(left))


def reread(pool: Pool, before: Pool, after: Pool) -> Plan | None:
    """What a config file says now and did not say `before`, done to `pool`, which may have changed. None: nothing.
    Where a model gets more engines or fewer, those that there are go on."""
    old, new = _by_name(before), _by_name(after)
    told = {name: member for name, member in new.items() if old.get(name) != member}
    if not told and old.keys() <= new.keys():
        return None
    there = _by_name(pool)
    left = [told.pop(name, member) for name, member in there.items() if name not in old.keys() - new.keys()]
    pool = (*left, *told.values())
    kept = {member.name: member.name for member in pool if member.name in there and _alike(member, there[member.name])}
    for member in pool:  # one engine that becomes the first of several, or the other way round
        heir = next((name for name in _first_of(member) if name in there and name not in _by_name(pool)), "")
        if heir and _alike(member, there[heir]):
            kept[member.name] = heir
    return Plan(what="reload", member="", pool=pool, kept=kept)


def _first_of(member: Member) -> tuple[str, ...]:
    """What the only engine of a model is called where it is the first of several, and the other way round."""
    if not member.replica_of:
        return (engine_name(member.name, 0),)
    return (member.replica_of,) if member.name == engine_name(member.replica_of, 0) else ()


def _renamed(engine: Member, model: str) -> str:
    return model + engine.name.removeprefix(model_name(engine))


def _alike(one: Member, other: Member) -> bool:
    """Whether the same engine is meant."""
    fields = [name for name in Member.__struct_fields__ if name not in SOFT_KEYS | {"name", "replica_of"}]
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def _by_name(pool: Pool) -> dict[str, Member]:
    return {member.name: member for member in pool}


def _same(pool: Pool) -> dict[str, str]:
    return {member.name: member.name for member in pool}


def _named(pool: Pool, name: str) -> list[Member]:
    """The engines of the model called so."""
    found = [member for member in pool if model_name(member) == name]
    if found:
        return found
    if any(member.name == name for member in pool):
        model = next(model_name(member) for member in pool if member.name == name)
        raise BadRequest(f"{name!r} is one of several engines of {model!r}: `replicas` of that says how many there are")
    raise ModelNotFound(f"no member {name[:200]!r}; there are {listed([member.name for member in models(pool)])}")


def _canary(pool: Pool, name: str) -> list[Member]:
    _named(pool, name)
    found = [member for member in pool if member.replaces and name in (model_name(member), member.replaces)]
    if not found:
        raise BadRequest(f"{name!r} has no canary; `add` one with `replaces: {name}`")
    return found


def _require_no_canary(pool: Pool, name: str) -> None:
    for member in pool:
        if member.replaces == name:
            raise Conflict(f"{name!r} has a canary, {model_name(member)!r}: `promote` it or `rollback` first")
