"""Checks of a config beyond types: numbers out of bounds, reserved or repeated names, keys that contradict."""

import ipaddress
import os
import re
from collections.abc import Callable, Sequence

from router import urls
from router.config.adapters import check_adapters
from router.config.bounds import MOST_ENGINES, Between, outside
from router.config.devices import fault_of_device, fault_of_devices
from router.config.engine_args import argument_name, not_here, twice
from router.config.explain import one_of, shown
from router.config.names import fault_of_name, means_a_route
from router.config.objective_checks import Priced, check_objective
from router.config.presented import fault_of_api_key, fault_of_origin
from router.config.replicas import engines_of, model_name, models
from router.config.rule_checks import check_rules
from router.config.tree import CONFIG_VERSION, MPS_THREADS, Batches, Config, Gpu, Journal, Member, Server, Supervision
from router.errors import ConfigError

#: Numbers alone would be an address in an old spelling: `1.5` is 1.0.0.5.
_HOST_NAME = re.compile(r"(?=.{1,253}$)(?![0-9.]+$)[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_ROOT_PATH = re.compile(r"(?=.{1,256}$)(/[A-Za-z0-9._~-]+)+")
#: What the kernel takes as the name of a Unix socket.
_LONGEST_SOCKET = 107

#: Refuses, with a reason and the key.
Refuse = Callable[[str, str], None]


def check(config: Config, source: str) -> None:
    """Refuse what types alone cannot. Raises `ConfigError` naming source, value, key and what is allowed."""

    def refuse(why: str, at: str) -> None:
        raise ConfigError(f"{source}: {why} - at `{at}`")

    if config.version != CONFIG_VERSION:
        refuse(f"version {config.version} is not supported; expected {CONFIG_VERSION}", "$.version")
    if not config.pool:
        refuse("the pool is empty; expected at least one member", "$.pool")
    for at, value, allowed in outside(config):
        refuse(f"expected {allowed}, got {shown(value)}", at)
    _check_server(config.server, refuse)
    _check_supervision(config.supervision, refuse)
    _check_journal(config.journal, refuse)
    for name in config.devices:
        if why := fault_of_device(name):
            refuse(why, f"$.devices.{name}")
    _check_batches(config.batches, refuse)
    pool = models(config.pool)
    names = [member.name for member in pool]
    taken = list(names)
    for i, member in enumerate(pool):
        at = f"$.pool[{i}]"
        _check_name(member.name, names[:i], refuse, at)
        for name in member.also:
            _check_name(name, taken, refuse, at, "also")
            taken.append(name)
        check_replicas(member, refuse, at)
        _check_mps(member, config.gpu, refuse, at)
        (_check_engine if member.kind == "engine" else _check_url_member)(member, refuse, at)
        if member.like and member.strength is not None:
            refuse("give `like` or `strength`, not both", at)
        if member.capabilities == ():
            refuse("expected at least one capability, got none", f"{at}.capabilities")
        if member.replaces:
            _check_canary(member, pool, refuse, at)
    _check_engine_names(config.pool, taken, names, refuse)
    check_adapters(pool, refuse)
    if config.routing.judge and config.routing.judge not in names:
        expected = one_of(config.routing.judge, names)
        refuse(f"expected a member, {expected}, got {shown(config.routing.judge)}", "$.routing.judge")
    check_rules(config, pool, refuse)
    check_objective(config.objective, _priced(config), refuse)


def _priced(config: Config) -> Priced:
    routing, set_here = config.routing, [each.usd_per_hour for each in config.devices.values()]
    pool = models(config.pool)
    return Priced(
        members=[member.name for member in pool if not member.replaces],
        # A device's own price stands above its members': which lives where is not known yet.
        usd_per_hour=[1.0 if any(set_here) else member.usd_per_hour for member in pool],
        price=routing.price,
        threshold=routing.threshold is not None,
        slo_ttft=routing.slo_ttft_s is not None,
    )


def _check_server(server: Server, refuse: Refuse) -> None:
    for key, host in (("host", server.host), ("admin_host", server.admin_host)):
        if not _is_host(host):
            refuse(f"expected an address or a host's name, without port, got {shown(host)}", f"$.server.{key}")
    _check_keys(server, refuse)
    for i, origin in enumerate(server.allowed_origins):
        if why := fault_of_origin(origin):
            refuse(why, f"$.server.allowed_origins[{i}]")
    if server.uds and (why := _fault_of_socket(server.uds)):
        refuse(f"{why}, got {shown(server.uds)}", "$.server.uds")
    if server.root_path and not _ROOT_PATH.fullmatch(server.root_path):
        expected = "expected the start of a path, `/llm` say, without a slash at its end"
        refuse(f"{expected}, got {shown(server.root_path)}", "$.server.root_path")
    same = server.host == server.admin_host and server.port == server.admin_port
    if same and server.port and not server.uds:
        refuse(f"expected another port than `$.server.port`, got {server.port} too", "$.server.admin_port")


def _check_keys(server: Server, refuse: Refuse) -> None:
    choices: dict[str, str | None] = {}
    for i, each in enumerate(server.keys):
        if why := fault_of_api_key(each.key):
            refuse(why, f"$.server.api_keys[{i}]")
        if choices.setdefault(each.key, each.choice) != each.choice:
            refuse("this key stands twice, with another `choice`", f"$.server.api_keys[{i}]")


def _fault_of_socket(path: str) -> str:
    if "\0" in path:
        return "expected a file's path"
    size = len(os.fsencode(path))
    return f"expected at most {_LONGEST_SOCKET} bytes, not {size}" if size > _LONGEST_SOCKET else ""


def _is_host(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return _HOST_NAME.fullmatch(host) is not None
    return True


def _check_supervision(supervision: Supervision, refuse: Refuse) -> None:
    for key, floor in (("backoff_max_s", "backoff_s"), ("ping_timeout_s", "ping_s")):
        least, value = getattr(supervision, floor), getattr(supervision, key)
        if value < least:
            refuse(f"expected at least `{floor}`, {least:g}, got {value:g}", f"$.supervision.{key}")


def _check_journal(journal: Journal, refuse: Refuse) -> None:
    if journal.keep_bytes < 2 * journal.segment_bytes:
        least = f"{2 * journal.segment_bytes}, twice `segment_bytes`"
        refuse(f"expected at least {least}, got {journal.keep_bytes}", "$.journal.keep_bytes")
    if "\0" in journal.path:
        refuse(f"expected a folder's path, got {shown(journal.path)}", "$.journal.path")


def _check_batches(batches: Batches, refuse: Refuse) -> None:
    if "\0" in batches.path:
        refuse(f"expected a folder's path, got {shown(batches.path)}", "$.batches.path")
    for key, most in (("max_line_bytes", "max_file_bytes"), ("max_file_bytes", "max_files_bytes")):
        value, bound = getattr(batches, key), getattr(batches, most)
        if value > bound:
            refuse(f"expected at most `{most}`, {bound}, got {value}", f"$.batches.{key}")


def _check_name(name: str, before: Sequence[str], refuse: Refuse, at: str, key: str = "name") -> None:
    if means_a_route(name):
        refuse(f"{name!r} cannot name a member: it is empty or means a route", at)
    if why := fault_of_name(name):
        refuse(why, f"{at}.{key}")
    if name in before:
        refuse(f"two members are named {name!r}; names must differ", at)


def _check_engine_names(pool: Sequence[Member], taken: Sequence[str], names: Sequence[str], refuse: Refuse) -> None:
    """Of a model with several: operators ask for them by these names."""
    for member in pool:
        for engine in engines_of(member):
            if engine.replica_of and engine.name in taken:
                why = f"{engine.name!r} is one of the engines of {engine.replica_of!r}, and the name of another member"
                refuse(f"{why}; names must differ", f"$.pool[{names.index(model_name(engine))}]")


def check_replicas(member: Member, refuse: Refuse, at: str) -> None:
    """Refuse what `config.replicas` could not make engines of."""
    places = member.replicas
    if not isinstance(places, tuple):
        if not (bounds := Between(1, MOST_ENGINES)).holds(places):
            refuse(f"expected {bounds}, got {shown(places)}", f"{at}.replicas")
        if places > 1 and member.kind != "engine":
            refuse("only an engine has this; this member is one of `kind: openai`", f"{at}.replicas")
        return
    if not 1 <= len(places) <= MOST_ENGINES:
        expected = f"expected a number of engines, or the devices of each of up to {MOST_ENGINES:,}"
        refuse(f"{expected}, got {len(places)}", f"{at}.replicas")
    if member.kind != "engine":
        refuse("only an engine has this; this member is one of `kind: openai`", f"{at}.replicas")
    if member.devices is not None:
        refuse("give `devices`, or those of each engine in `replicas`, not both", f"{at}.replicas")
    for i, engine in enumerate(engines_of(member)):
        if fault := fault_of_devices(engine):
            refuse(fault[1], f"{at}.replicas[{i}]")


def _check_canary(canary: Member, pool: Sequence[Member], refuse: Refuse, at: str) -> None:
    able = [member.name for member in pool if not member.replaces]
    if canary.replaces not in able:
        expected = f"expected a member that is no canary itself, {one_of(canary.replaces, able)}"
        refuse(f"{expected}, got {shown(canary.replaces)}", f"{at}.replaces")
    rivals = [member.name for member in pool if member.replaces == canary.replaces and member is not canary]
    if rivals:
        refuse(f"{canary.replaces!r} has a canary already, {rivals[0]!r}", f"{at}.replaces")


def _check_engine(member: Member, refuse: Refuse, at: str) -> None:
    if not member.model.strip():
        refuse("an engine needs `model`: a path or hub id", at)
    for key in ("url", "api_key"):
        if getattr(member, key):
            refuse("only a member of `kind: openai` has this; this one is an engine", f"{at}.{key}")
    if found := not_here(member.engine_args):
        key, why = found
        refuse(f"{key!r} {why}", f"{at}.engine_args.{key}")
    if key := twice(member.engine_args):
        refuse(f"{argument_name(key)!r} stands twice, in two spellings", f"{at}.engine_args.{key}")
    if fault := fault_of_devices(member):
        refuse(fault[1], f"{at}.{fault[0]}")
    for key, value in member.env.items():
        if not key or "=" in key or "\0" in key + value:
            refuse(f"expected a variable's name and its text, got {shown(key)}", f"{at}.env")


def _check_mps(member: Member, gpu: Gpu, refuse: Refuse, at: str) -> None:
    if member.mps_threads is None or member.kind != "engine":
        return
    if not gpu.mps_on:
        refuse("it bounds an engine under NVIDIA's MPS: set `gpu: {mps: on}` too", f"{at}.mps_threads")
    if MPS_THREADS in member.env:
        refuse(f"give `mps_threads` or {MPS_THREADS} in `env`, not both", f"{at}.mps_threads")


def _check_url_member(member: Member, refuse: Refuse, at: str) -> None:
    try:
        url = urls.parse(member.url)
    except ValueError as error:
        refuse(f"an openai member needs `url`, a base URL; got {urls.shown(member.url)!r}: {error}", f"{at}.url")
    else:
        if url.authorization and member.api_key:
            refuse("give `api_key` or a login in `url`, not both", f"{at}.api_key")
    if not (member.api_key.isascii() and (member.api_key + " ").isprintable()) or " " in member.api_key:
        refuse("expected printable ASCII without spaces, not shown here", f"{at}.api_key")
    for key in ("engine_args", "env", "devices", "mps_threads", "sleep"):
        if getattr(member, key) not in ({}, None):
            refuse("only an engine has this; this member is one of `kind: openai`", f"{at}.{key}")
