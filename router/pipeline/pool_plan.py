"""What a pool is to become by one change: its members afterwards, and which of them go on as they are. Pure.

A member that does not go on is started anew; what runs and is not kept ends. Knows no engine.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from router.config import Member
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


def add(pool: Pool, member: Member) -> Plan:
    if any(member.name == each.name for each in pool):
        raise Conflict(f"there is a member {member.name!r} already; `replace` puts another in its place")
    return Plan(what="add", member=member.name, pool=(*pool, member), kept=_same(pool))


def remove(pool: Pool, name: str) -> Plan:
    gone = _named(pool, name)
    _require_no_canary(pool, name)
    left = tuple(member for member in pool if member is not gone)
    return Plan(what="remove", member=name, pool=left, kept=_same(left))


def replace(pool: Pool, name: str, member: Member, *, stop_first: bool = False) -> Plan:
    """`member` in the place of the one called `name`, under that name or another."""
    old = _named(pool, name)
    _require_no_canary(pool, name)
    if member.name == name and not member.also:
        member = msgspec.structs.replace(member, also=old.also)
    if old.replaces and not member.replaces:
        member = msgspec.structs.replace(member, replaces=old.replaces, weight=old.weight)
    left = tuple(each for each in pool if each is not old)
    if any(member.name == each.name for each in left):
        raise Conflict(f"there is another member {member.name!r}")
    after = tuple(member if each is old else each for each in pool)
    return Plan(what="replace", member=name, pool=after, kept=_same(left), stop_first=name if stop_first else "")


def promote(pool: Pool, name: str) -> Plan:
    """The canary of `name`, or called so, takes the place and the name of its member."""
    canary = _canary(pool, name)
    old = _named(pool, canary.replaces)
    heir = msgspec.structs.replace(canary, name=old.name, also=canary.also or old.also, replaces="", weight=old.weight)
    after = tuple(heir if member is old else member for member in pool if member is not canary)
    kept = _same([member for member in after if member is not heir])
    return Plan(what="promote", member=old.name, pool=after, kept={**kept, old.name: canary.name})


def roll_back(pool: Pool, name: str) -> Plan:
    """The canary of `name`, or called so, goes."""
    canary = _canary(pool, name)
    left = tuple(member for member in pool if member is not canary)
    return Plan(what="rollback", member=canary.replaces, pool=left, kept=_same(left))


def reread(pool: Pool, before: Pool, after: Pool) -> Plan | None:
    """What a config file says now and did not say `before`, done to `pool`, which may have changed. None: nothing."""
    old, new = _by_name(before), _by_name(after)
    told = {name: member for name, member in new.items() if old.get(name) != member}
    if not told and old.keys() <= new.keys():
        return None
    there = _by_name(pool)
    left = [told.pop(name, member) for name, member in there.items() if name not in old.keys() - new.keys()]
    pool = (*left, *told.values())
    kept = {member.name: member.name for member in pool if member.name in there and _alike(member, there[member.name])}
    return Plan(what="reload", member="", pool=pool, kept=kept)


def _alike(one: Member, other: Member) -> bool:
    """Whether the same engine is meant."""
    fields = [name for name in Member.__struct_fields__ if name not in SOFT_KEYS]
    return all(getattr(one, name) == getattr(other, name) for name in fields)


def _by_name(pool: Pool) -> dict[str, Member]:
    return {member.name: member for member in pool}


def _same(pool: Pool) -> dict[str, str]:
    return {member.name: member.name for member in pool}


def _named(pool: Pool, name: str) -> Member:
    for member in pool:
        if member.name == name:
            return member
    raise ModelNotFound(f"no member {name[:200]!r}; there are {listed([member.name for member in pool])}")


def _canary(pool: Pool, name: str) -> Member:
    _named(pool, name)
    for member in pool:
        if member.replaces and name in (member.name, member.replaces):
            return member
    raise BadRequest(f"{name!r} has no canary; `add` one with `replaces: {name}`")


def _require_no_canary(pool: Pool, name: str) -> None:
    for member in pool:
        if member.replaces == name:
            raise Conflict(f"{name!r} has a canary, {member.name!r}: `promote` it or `rollback` first")
