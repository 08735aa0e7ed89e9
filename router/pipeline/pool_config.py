"""The config that a pool has after a change: what goes on stays as it runs, what is started gets what it needs."""

import re
from collections.abc import Iterable, Mapping, Sequence

import msgspec

from router import config as configuration
from router.config import Config, Member
from router.errors import ArgumentsRefused, ConfigError
from router.pipeline.pool_plan import SOFT_KEYS, Plan
from router.pool.environment import Machine, placed

_OF_POOL = re.compile(r"\$\.pool\[(\d+)\](.*)")


def refusal_in_file(pool: Sequence[Member], refused: ArgumentsRefused) -> ConfigError:
    """What vLLM said of an engine's argument, and where that stands in the file."""
    names = [member.name for member in pool]
    at = configuration.in_file(pool, f"$.pool[{names.index(refused.member)}].engine_args")
    return ConfigError(f"{refused.said} - at `{at}{refused.key and '.'}{refused.key}`")


def config_after(
    now: Config,
    plan: Plan,
    machine: Machine,
    expanded: Mapping[str, tuple[str, ...]],
    secret_variables: Iterable[str],
    file: Config | None,
) -> Config:
    """`expanded`: where references stood, by the names that members have now or, of those that are started, will have;
    `secret_variables`: that their keys were read from; `file`: whose `routing` and `objective` it has; None: as they
    are. Raises `ConfigError` where an engine has no room."""
    pool = _placed(now, plan, machine)
    elsewhere = [at for at in now.expanded_at if not _OF_POOL.match(at)]
    of_pool = [
        f"$.pool[{i}]{place}"
        for i, member in enumerate(pool)
        for place in expanded.get(plan.kept.get(member.name, member.name), ())
    ]
    return msgspec.structs.replace(
        now,
        pool=pool,
        routing=(file or now).routing,
        objective=(file or now).objective,
        expanded_at=(*elsewhere, *of_pool),
        secret_variables=tuple(sorted({*now.secret_variables, *secret_variables})),
    )


def expanded_by_member(config: Config) -> dict[str, tuple[str, ...]]:
    """Where references stood in each member, by its name."""
    found: dict[str, tuple[str, ...]] = {}
    for at in config.expanded_at:
        if match := _OF_POOL.match(at):
            name = config.pool[int(match[1])].name
            found[name] = (*found.get(name, ()), match[2])
    return found


def _placed(now: Config, plan: Plan, machine: Machine) -> tuple[Member, ...]:
    """The pool afterwards: what is started gets what is left beside those that run, also those that will go."""
    before = {member.name: member for member in now.pool}
    kept = {new.name: _with_soft(before[plan.kept[new.name]], new) for new in plan.pool if new.name in plan.kept}
    gone = [] if plan.stop_first else [old for old in now.pool if old.name not in plan.kept.values()]
    if machine.gpu:
        beside = (*(kept.get(member.name, member) for member in plan.pool), *gone)
    else:
        beside = plan.pool  # each gets its part of the memory, as if all were started now
    hub = configuration.hub_folder(configuration.inherited_environment(now))
    made = placed(msgspec.structs.replace(now, pool=tuple(beside)), machine, hub).pool
    return tuple(kept.get(member.name, member) for member in made[: len(plan.pool)])


def _with_soft(runs: Member, asked: Member) -> Member:
    """What runs, with the name and the keys that it takes over from `asked`."""
    soft = {key: getattr(asked, key) for key in SOFT_KEYS}
    names = {key: getattr(asked, key) for key in ("name", "replica_of", "replaces")}
    return msgspec.structs.replace(runs, **names, **soft)
