"""The pool to simulate: models, the engines of each, and which devices they share.

Members that share a device are one group; a group is copied as a whole, with devices of its own. So a pool is so many
copies of each group. Seconds, tokens, USD.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from router.errors import ConfigError
from router.policy import Settings
from router.steps import StepModel

#: What vLLM does where it is not told otherwise.
MOST_RUNNING, STEP_TOKENS, BLOCK_TOKENS = 256, 2_048, 16
UNBOUNDED = 1 << 40  #: tokens of a KV cache of unknown size
MOST_ENGINES = 4_096
_MOST_S = 60.0  #: of a coefficient of a step


class Law(msgspec.Struct, frozen=True, kw_only=True):
    """What a step takes (docs/price.md)."""

    step_s: float
    running_s: float = 0.0
    context_s: float = 0.0
    prefill_s: float = 0.0
    slowdown: float = 0.0


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What decisions know of an engine beside its load: fields of `config.Member` and `steps.StepModel`."""

    usd_per_s: float
    overhead_s: float = 0.0
    mean_output_tokens: float = 200.0
    prefill_tokens_per_s: float = 0.0
    time_per_output_token_s: float = 0.0
    cost_error: float = 0.0
    first_token_error: float = 0.0
    output_token_error: float = 0.0
    has_model: bool = True


class Engine(msgspec.Struct, frozen=True, kw_only=True):
    """One engine, as `native.simulator` reads it."""

    model: int
    law: Law
    known: Known
    most_running: int = MOST_RUNNING
    step_tokens: int = STEP_TOKENS
    kv_tokens: int = UNBOUNDED
    block_tokens: int = BLOCK_TOKENS
    context_tokens: int = 0
    beside: tuple[int, ...] = ()  #: engines of the same devices


class Model(msgspec.Struct, frozen=True, kw_only=True):
    """One member, and what each of its engines is. `engine.model` and `engine.beside` are filled in for a run."""

    name: str
    group: int  #: index in `Pool.groups`
    engine: Engine


class Group(msgspec.Struct, frozen=True, kw_only=True):
    """Members that share devices."""

    members: tuple[str, ...]
    devices: int
    usd_per_hour: float  #: of all its devices, as whole ones
    copies: int = 1

    @property
    def name(self) -> str:
        return "+".join(self.members)


class Pool(msgspec.Struct, frozen=True, kw_only=True):
    models: tuple[Model, ...]
    groups: tuple[Group, ...]
    settings: Settings = Settings()  #: how `auto` is decided, with indices in `models`
    in_flight: int = 2_048
    places: int = 512
    queue_s: float = 10.0
    assumed: tuple[str, ...] = ()  #: what is not known, and what was taken instead

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(model.name for model in self.models)

    @property
    def devices(self) -> int:
        return sum(group.copies * group.devices for group in self.groups)

    @property
    def usd_per_hour(self) -> float:
        return math.fsum(group.copies * group.usd_per_hour for group in self.groups)

    def copied(self, copies: Mapping[int, int]) -> "Pool":
        """With so many copies of these groups, by index."""
        groups = tuple(
            msgspec.structs.replace(group, copies=copies.get(i, group.copies)) for i, group in enumerate(self.groups)
        )
        return msgspec.structs.replace(self, groups=groups)

    def engines(self) -> tuple[Engine, ...]:
        """Those of one copy stand beside each other. Raises ConfigError where they are too many."""
        count = sum(self.groups[model.group].copies for model in self.models)
        if count > MOST_ENGINES:
            raise ConfigError(f"expected at most {MOST_ENGINES} engines in one pool, got {count}")
        out: list[Engine] = []
        for i, group in enumerate(self.groups):
            mine = [(j, model.engine) for j, model in enumerate(self.models) if model.group == i]
            for _ in range(group.copies):
                ids = range(len(out), len(out) + len(mine))
                out += [
                    msgspec.structs.replace(engine, model=j, beside=tuple(id for id in ids if id != own))
                    for own, (j, engine) in zip(ids, mine, strict=True)
                ]
        return tuple(out)


def law_of(model: StepModel) -> Law:
    return Law(
        step_s=model.step_s, running_s=model.running_s, context_s=model.context_s, prefill_s=model.prefill_s,
        slowdown=model.slowdown,
    )  # fmt: skip


def checked(name: str, engine: Engine) -> Engine:
    """As it is. Raises ConfigError naming the member, the number and what is expected."""
    for field, value in msgspec.structs.asdict(engine.law).items():
        if not 0 <= value <= _MOST_S:  # NaN is refused too
            raise ConfigError(f"engine {name!r}: {field}: expected 0 to {_MOST_S:g}, got {value}")
    if engine.law.step_s <= 0:
        raise ConfigError(f"engine {name!r}: step_s: expected seconds above 0, got {engine.law.step_s:g}")
    for field, value in (("max_num_seqs", engine.most_running), ("block_size", engine.block_tokens)):
        if value < 1:
            raise ConfigError(f"engine {name!r}: {field}: expected a whole number from 1, got {value}")
    if engine.step_tokens < engine.most_running:
        raise ConfigError(
            f"engine {name!r}: max_num_batched_tokens: expected at least max_num_seqs ({engine.most_running}), as vLLM"
            f" does, got {engine.step_tokens}"
        )
    if engine.kv_tokens < engine.block_tokens * 2:
        raise ConfigError(f"engine {name!r}: kv_tokens: expected room for two blocks, got {engine.kv_tokens}")
    return engine


def subset(pool: Pool, names: Sequence[str]) -> Pool:
    """Only these members, and the groups that have some of them. The rule is that of the pool where it has members
    left to choose from."""
    models = [model for model in pool.models if model.name in names]
    kept = sorted({model.group for model in models})
    groups = tuple(
        msgspec.structs.replace(pool.groups[i], members=tuple(n for n in pool.groups[i].members if n in names))
        for i in kept
    )
    moved = tuple(msgspec.structs.replace(model, group=kept.index(model.group)) for model in models)
    settings = msgspec.structs.replace(pool.settings, rule="utility", strong=0, weak=0, pinned=-1)
    return msgspec.structs.replace(pool, models=moved, groups=groups, settings=settings)
