"""A pool to simulate, of a config, of the step models that its engines were found to have, and of flags."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from router.config import Config, Member, by_argument_name, device_names, devices_needed
from router.config.replicas import engine_name, engines_of
from router.errors import ConfigError
from router.ipc.spec import HostSpec
from router.learn.simulate.pool import (
    BLOCK_TOKENS,
    MOST_RUNNING,
    STEP_TOKENS,
    UNBOUNDED,
    Engine,
    Group,
    Known,
    Model,
    Pool,
    checked,
    law_of,
)
from router.policy import Settings
from router.pool.costs import Costs
from router.pool.load import usd_per_hour, usd_per_s
from router.pool.timings import key_of
from router.steps import StepModel

PROFILE = "run `headgate profile` on the running server, or tell it by --engine {name},step_s=...,prefill_s=..."


class EngineFlag(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One `--engine`: of a member of the config what differs, else a whole member. None: not given."""

    name: str
    step_s: float | None = None
    running_s: float | None = None
    context_s: float | None = None
    prefill_s: float | None = None
    slowdown: float | None = None
    overhead_s: float | None = None
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    block_size: int | None = None
    kv_tokens: int | None = None
    max_model_len: int | None = None
    output_tokens: float | None = None  #: of a mean answer, as decisions expect it at first
    usd_per_hour: float | None = None  #: of one device
    devices: int | None = None
    copies: int | None = None
    beside: str | None = None  #: a member whose devices it shares


def engine_flag(text: str) -> EngineFlag:
    """`NAME,KEY=VALUE,...`. Raises ConfigError."""
    name, *parts = text.split(",")
    values: dict[str, object] = {}
    for part in parts:
        key, equals, value = part.partition("=")
        if not equals or key in values or key == "name":
            raise ConfigError(f"--engine: expected NAME,KEY=VALUE,..., each key once; got {part!r} in {text!r}")
        values[key] = _number(value)
    try:
        return msgspec.convert({"name": name, **values}, EngineFlag)
    except msgspec.ValidationError as error:
        raise ConfigError(f"--engine {text!r}: {error}; keys: {', '.join(EngineFlag.__struct_fields__[1:])}") from error


def _number(text: str) -> object:
    """A number, where it is one: `.006` and `6e-3` too."""
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            pass
    return text


def kept_models(folder: Path | None) -> Callable[[str, str], StepModel | None]:
    """Finds a model by the engine's key, else by the member's name, in `costs.json` of the folder. None, or no such
    folder: there are none."""
    costs = Costs(folder)
    return lambda key, name: kept.model if (kept := costs.of(key) or costs.called(name)) else None


def step_models(path: Path) -> Callable[[str, str], StepModel | None]:
    """The same. `path`: a folder with `costs.json`, or a file that `headgate profile --json` or
    `headgate members --cost --json` wrote."""
    if path.is_dir() or path.name == "costs.json":
        return kept_models(path if path.is_dir() else path.parent)
    named = _told(path)
    return lambda key, name: named.get(name) or named.get(engine_name(name, 0))


class _Shown(msgspec.Struct, frozen=True):
    name: str
    cost: StepModel | None = None


class _Profiled(msgspec.Struct, frozen=True):
    members: dict[str, StepModel | None] | list[_Shown]


def _told(path: Path) -> dict[str, StepModel | None]:
    try:
        members = msgspec.json.decode(path.read_bytes(), type=_Profiled).members
    except OSError as error:
        raise ConfigError(f"--costs: {path}: cannot be read: {error.strerror}") from error
    except ValueError as error:  # msgspec's errors are such
        raise ConfigError(
            f"--costs: {path}: expected a folder with costs.json, or what `headgate profile --json` wrote: {error}"
        ) from error
    return members if isinstance(members, dict) else {member.name: member.cost for member in members}


def pool_of(
    config: Config, flags: Sequence[EngineFlag], models: Callable[[str, str], StepModel | None], settings: Settings
) -> Pool:
    """The config's members, and those that only flags tell of. `settings`: how `auto` is decided.

    Raises ConfigError where a member's steps are not known, which names `headgate profile`."""
    told = {flag.name: flag for flag in flags}
    if len(told) < len(flags):
        raise ConfigError("--engine: expected each member once")
    models_told = [_model(member) for member in config.pool]
    members = [
        *(model for model, _ in models_told),
        *(_member(flag) for flag in flags if all(one.name != flag.name for one in config.pool)),
    ]
    if not members:
        raise ConfigError("expected a headgate.yaml, or --engine for each member")
    placed = _placed([_changed(member, told.get(member.name)) for member in members], told)
    whole = msgspec.structs.replace(config, pool=tuple(placed))
    assumed: list[str] = []
    copies = {model.name: count for model, count in models_told}
    groups = _groups(whole, copies, {flag.name: flag.copies for flag in flags if flag.copies is not None})
    index = {name: i for i, group in enumerate(groups) for name in group.members}
    made = [
        Model(
            name=member.name, group=index[member.name],
            engine=_engine(
                member, told.get(member.name), usd, models if member.name in copies else lambda key, name: None, assumed
            ),
        )
        for member, usd in zip(whole.pool, usd_per_s(whole), strict=True)
    ]  # fmt: skip
    limits = config.server.limits
    return Pool(
        models=tuple(made), groups=groups, settings=settings, in_flight=limits.in_flight, places=limits.queue_places,
        queue_s=limits.queue_s, assumed=tuple(assumed),
    )  # fmt: skip


def _model(member: Member) -> tuple[Member, int]:
    """Of a member with several engines the first, under the model's name, and how many they are."""
    engines = engines_of(member)
    first = msgspec.structs.replace(engines[0], name=member.name, replicas=1, replica_of="")
    return first, len(engines)


def _member(flag: EngineFlag) -> Member:
    return Member(name=flag.name, model=flag.name)


def _changed(member: Member, flag: EngineFlag | None) -> Member:
    if flag is None:
        return member
    given = {"usd_per_hour": flag.usd_per_hour, "mean_output_tokens": flag.output_tokens}
    changes = {key: value for key, value in given.items() if value is not None}
    for key, value in changes.items():
        if not 0 <= value < 1e9:
            raise ConfigError(f"--engine {flag.name}: {key}: expected a number from 0, got {value:g}")
    return msgspec.structs.replace(member, **changes)


def _placed(members: Sequence[Member], told: Mapping[str, EngineFlag]) -> list[Member]:
    """With devices of a name each: a member that is on none has its own, or those of the one it stands beside."""
    out = []
    known = {member.name: member for member in members}
    for member in members:
        flag = told.get(member.name)
        host = known.get(flag.beside) if flag is not None and flag.beside is not None else member
        if host is None:
            raise ConfigError(f"--engine {member.name}: beside: expected one of {', '.join(known)}")
        own = told.get(host.name)
        count = own.devices if own is not None and own.devices is not None else None
        if count is not None and not 1 <= count <= 1024:
            raise ConfigError(f"--engine {host.name}: devices: expected 1 to 1024, got {count}")
        names = device_names(host)
        if count is not None or not names:
            names = tuple(f"{host.name}/{i}" for i in range(count or devices_needed(host)))
        out.append(msgspec.structs.replace(member, devices=names))
    return out


def _groups(config: Config, copies: Mapping[str, int], wanted: Mapping[str, int]) -> tuple[Group, ...]:
    """Members whose devices meet are one group. `copies`: the config's; `wanted`: of flags, in place of its group's."""
    found: list[tuple[set[str], list[Member]]] = []
    for member in config.pool:
        devices, members = set(device_names(member)), [member]
        for other in [one for one in found if not one[0].isdisjoint(devices)]:
            found.remove(other)
            devices |= other[0]
            members = other[1] + members
        found.append((devices, members))
    out = []
    for devices, members in found:
        asked = {wanted[one.name] for one in members if one.name in wanted}
        asked = asked or {copies[one.name] for one in members if one.name in copies}
        if len(asked) > 1 or any(not 1 <= count <= 4096 for count in asked):
            raise ConfigError(
                f"--engine: copies: expected one number from 1 to 4096 for {', '.join(one.name for one in members)},"
                " which share devices"
            )
        hourly = max(usd_per_hour(one, config.devices) / len(device_names(one)) for one in members)
        out.append(
            Group(
                members=tuple(one.name for one in members), devices=len(devices), usd_per_hour=hourly * len(devices),
                copies=asked.pop() if asked else 1,
            )
        )  # fmt: skip
    return tuple(out)


def _engine(
    member: Member, flag: EngineFlag | None, usd: float, models: Callable[[str, str], StepModel | None],
    assumed: list[str],
) -> Engine:  # fmt: skip
    given = flag or EngineFlag(name=member.name)
    model = models(key_of(_spec(member)), member.name) or StepModel()
    law = law_of(model)
    law = msgspec.structs.replace(
        law, **{key: value for key in law.__struct_fields__ if (value := getattr(given, key)) is not None}
    )
    if not law.step_s:
        raise ConfigError(f"member {member.name!r}: it is not known what its steps take: "
                          + PROFILE.format(name=member.name))  # fmt: skip
    arguments = by_argument_name(member.engine_args)

    def number(own: int | None, name: str, default: int, about: str) -> int:
        value = own if own is not None else arguments.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        assumed.append(f"{member.name}: {name} is not told: {about}")
        return default

    block = given.block_size or _whole(arguments.get("block_size")) or BLOCK_TOKENS
    blocks = _whole(arguments.get("num_gpu_blocks_override"))
    kv = given.kv_tokens if given.kv_tokens is not None else blocks * block if blocks else None
    if kv is None:
        assumed.append(f"{member.name}: kv_tokens is not told: the KV cache is taken to hold all that run")
    engine = Engine(
        model=0, law=law,
        known=Known(
            usd_per_s=usd, overhead_s=model.overhead_s if given.overhead_s is None else given.overhead_s,
            mean_output_tokens=member.mean_output_tokens, prefill_tokens_per_s=member.prefill_tokens_per_s,
            time_per_output_token_s=member.time_per_output_token_s, cost_error=model.error_window,
            first_token_error=model.error_first_token, output_token_error=model.error_output_token,
        ),
        most_running=number(given.max_num_seqs, "max_num_seqs", MOST_RUNNING, f"{MOST_RUNNING} is taken"),
        step_tokens=number(
            given.max_num_batched_tokens, "max_num_batched_tokens", STEP_TOKENS, f"{STEP_TOKENS} is taken"
        ),
        kv_tokens=UNBOUNDED if kv is None else kv, block_tokens=block,
        context_tokens=given.max_model_len or _whole(arguments.get("max_model_len")) or member.context_tokens,
    )  # fmt: skip
    return checked(member.name, engine)


def _whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _spec(member: Member) -> HostSpec:
    """By which its step model is kept; the socket is no part of that."""
    return HostSpec(name=member.name, model=member.model, socket="", engine_args=member.engine_args)
