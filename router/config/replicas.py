"""Several engines of one model: `replicas` of a member becomes as many members, each an engine of its own. Who decides
sees the model, of which `models` tells one member each; who starts, watches and places sees the engines.

    {name: small, replicas: 2}  ->  small/0, small/1, each with `replica_of: small`
"""

import re
from collections.abc import Sequence
from typing import TypeVar

import msgspec

from router.config.tree import Config, Member

_OF_POOL = re.compile(r"\$\.pool\[(\d+)\]")

T = TypeVar("T")


def in_file(pool: Sequence[Member], said: str) -> str:
    """`said` of a pool's engines, `$.pool[3].devices`, with the places of their members in a file."""
    place = {i: at for at, group in enumerate(groups(pool)) for i in group}
    return _OF_POOL.sub(lambda match: f"$.pool[{place.get(int(match[1]), match[1])}]", said)


def engine_name(model: str, replica: int) -> str:
    """Of one of several engines of a model, as operators see it."""
    return f"{model}/{replica}"


def model_name(member: Member) -> str:
    """The name by which clients ask for it."""
    return member.replica_of or member.name


def engines_of(member: Member) -> tuple[Member, ...]:
    """One member for each engine; of one engine it is the member itself."""
    places = member.replicas if isinstance(member.replicas, tuple) else (member.devices,) * member.replicas
    if len(places) == 1 and not isinstance(member.replicas, tuple):
        return (member,)
    return tuple(
        msgspec.structs.replace(
            member, name=engine_name(member.name, i), replica_of=member.name, replicas=1, devices=devices
        )
        for i, devices in enumerate(places)
    )


def expanded(config: Config) -> Config:
    """`config` with a member for each engine. Once more it stays the same."""
    engines = [(i, engine) for i, member in enumerate(config.pool) for engine in engines_of(member)]
    if all(engine is member for (_, engine), member in zip(engines, config.pool, strict=False)):
        return config
    elsewhere = [at for at in config.expanded_at if not _OF_POOL.match(at)]
    of_pool = [
        _OF_POOL.sub(f"$.pool[{now}]", at)
        for at in config.expanded_at
        if (match := _OF_POOL.match(at))
        for now, (was, _) in enumerate(engines)
        if was == int(match[1])
    ]
    pool = tuple(engine for _, engine in engines)
    return msgspec.structs.replace(config, pool=pool, expanded_at=(*elsewhere, *of_pool))


def groups(pool: Sequence[Member]) -> tuple[tuple[int, ...], ...]:
    """By model, in the order of their first engines: the indices of its engines, which are in the order of their
    names."""
    found: dict[str | int, list[int]] = {}
    for i, member in enumerate(pool):
        found.setdefault(member.replica_of or i, []).append(i)
    return tuple(tuple(sorted(each, key=lambda i: (len(pool[i].name), pool[i].name))) for each in found.values())


def models(pool: Sequence[Member]) -> tuple[Member, ...]:
    """One member a model, under its own name: the first of its engines."""
    return tuple(
        msgspec.structs.replace(pool[first], name=model_name(pool[first]), replica_of="") for first, *_ in groups(pool)
    )


def by_engine(pool: Sequence[Member], of_models: Sequence[T]) -> tuple[T, ...]:
    """What is so of each model, for each engine of `pool`."""
    found = {i: value for group, value in zip(groups(pool), of_models, strict=True) for i in group}
    return tuple(found[i] for i in range(len(pool)))
