"""A plan of a config on a machine, and the config with the arguments that it adds."""

from collections.abc import Sequence

import msgspec

from router.config import Config, Member
from router.errors import ConfigError
from router.pool.devices import DeviceList
from router.pool.memory.mix import Mix, check
from router.pool.memory.peak import Assumptions
from router.pool.memory.plan import PoolPlan, plan
from router.pool.mps import wanted
from router.pool.placement import at_index
from router.pool.weights import Weights


def mix_of(config: Config) -> Mix:
    """As the config says it. Raises `ConfigError`."""
    told = config.plan
    mix = Mix(
        prompt_tokens=told.prompt_tokens,
        output_tokens=told.output_tokens,
        concurrency=told.concurrency,
        told=told != type(told)(auto=told.auto),
    )
    check(mix, {"prompt_tokens": "$.plan.prompt_tokens", "output_tokens": "$.plan.output_tokens"})
    return mix


def assumptions_of(config: Config) -> Assumptions:
    told = config.plan
    return Assumptions(memory_share=told.memory_share, context_bytes=told.context_bytes, graphs_bytes=told.graphs_bytes)


def plan_on(
    config: Config, found: DeviceList, memory_bytes: int, weights: Sequence[Weights], mix: Mix, assumed: Assumptions
) -> PoolPlan:
    """`memory_bytes`: of the machine; `weights`: of each member. Raises `ConfigError`."""
    made = plan(config.pool, weights, found, memory_bytes, at_index(config.devices, found), mix, assumed)
    return msgspec.structs.replace(made, mps=wanted(config))


def with_planned(config: Config, found: DeviceList, memory_bytes: int, weights: Sequence[Weights]) -> Config:
    """`config` with what its plan adds to each engine, devices too. Raises `ConfigError` where they do not all fit."""
    made = plan_on(config, found, memory_bytes, weights, mix_of(config), assumptions_of(config))
    if not made.fits:
        raise ConfigError(f"the plan: {made.why}")
    by_name = {engine.name: engine for engine in made.engines}

    def one(member: Member) -> Member:
        engine = by_name.get(member.name)
        if engine is None or not engine.engine_args:
            return member
        args = {**engine.engine_args, **member.engine_args}
        return msgspec.structs.replace(member, engine_args=args, devices=member.devices or engine.devices or None)

    return msgspec.structs.replace(config, pool=tuple(map(one, config.pool)))
