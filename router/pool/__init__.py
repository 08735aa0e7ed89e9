"""The pool: members, their supervision, load and breakers. `build` makes the members of a config."""

from collections.abc import Container, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from router import config as configuration
from router.config import Config
from router.pool.base import PoolMember
from router.pool.load import gpu_shares, usd_per_hour, usd_per_s

if TYPE_CHECKING:
    from router.pool.environment import Machine

__all__ = ["PoolMember", "build", "place"]


def build(
    config: Config,
    folder: Path,
    env: Mapping[str, str],
    machine: "Machine",
    *,
    host_command: tuple[str, ...] | None = None,
    only: Container[str] | None = None,
    generation: int = 0,
) -> tuple[PoolMember, ...]:
    """The members of `config.pool`, which is placed on `machine`, none of them started. Sockets are made in `folder`,
    logs too unless configured. `only`: those of these names, beside others that run; each time by another
    `generation`."""
    from router.pool.costs import Costs
    from router.pool.engine import EngineMember
    from router.pool.environment import environment, lost_devices
    from router.pool.folder import log_folder_of
    from router.pool.openai import OpenAIMember
    from router.pool.process import HOST_COMMAND
    from router.pool.timings import Timings

    log_folder = log_folder_of(config.supervision.log_dir) if config.supervision.log_dir else folder
    timings = Timings(configuration.cache_folder(env))
    costs = Costs(configuration.cache_folder(env))
    engines = sum(member.kind == "engine" for member in config.pool)
    members: list[PoolMember] = []
    for unpriced, share in zip(config.pool, gpu_shares(config.pool), strict=True):
        if only is not None and unpriced.name not in only:
            continue
        member = msgspec.structs.replace(unpriced, usd_per_hour=usd_per_hour(unpriced, config.devices))
        if member.kind == "openai":
            members.append(OpenAIMember(member, config.supervision, gpu_share=share))
            continue
        members.append(
            EngineMember(
                member,
                config.supervision,
                folder,
                gpu_share=share,
                log_folder=log_folder,
                env=environment(member, env, machine, engines),
                stream_buffer_bytes=config.server.limits.stream_buffer_bytes,
                timings=timings,
                costs=costs,
                metrics=config.server.engine_metrics,
                lost_devices=lost_devices(member, machine),
                shared=None if machine.mps is None else partial(machine.mps.variables, member),
                command=host_command or HOST_COMMAND,
                generation=generation,
            )
        )
    return tuple(members)


def place(config: Config, members: Sequence[PoolMember]) -> None:
    """Tell each of `members` what it is in the config's pool, in whose order they are: name, model, price, whose
    canary."""
    from router.pool.laned import Laned

    names = [member.name for member in configuration.models(config.pool)]
    for member, usd, runs in zip(config.pool, usd_per_s(config), members, strict=True):
        if isinstance(runs, Laned):
            canary = (names.index(member.replaces), member.weight) if member.replaces else (0, 0.0)
            runs.placed(member.name, configuration.model_name(member), usd, *canary)
