"""`headgate.yaml` as one tree of frozen structs, decoded once; each room gets its own branch.

The only place that reads the environment. A bad file is refused with its name, the key and what was expected.
"""

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from router.errors import ConfigError

CONFIG_VERSION = 1
_ENV_REFERENCE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")

_ORIGIN = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::(?P<port>\d+))?")


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds that keep memory a matter of configuration, not of traffic."""

    body_bytes: int = 32 * 1024 * 1024
    header_bytes: int = 64 * 1024
    headers: int = 128
    connections: int = 20_000
    in_flight: int = 2_048  #: accepted and unfinished requests; over it 429
    waiting: int = 2_048  #: requests that wait in one engine; when every engine has so many, 429
    pending_bytes: int = 512 * 1024 * 1024  #: bodies kept until their first answer byte; over it 429
    header_timeout_s: float = 10.0  #: from a request's first byte to the end of its headers
    body_timeout_s: float = 60.0
    keepalive_s: float = 75.0
    stream_buffer_bytes: int = 1 << 20  #: unsent answer bytes kept for a client that reads slowly
    write_timeout_s: float = 60.0  #: a client that takes nothing for so long is cut
    drain_s: float = 30.0  #: after SIGTERM, running answers may take this long


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the doors are. `port: 0` lets the system choose."""

    host: str = "127.0.0.1"
    port: int = 8000
    admin_host: str = "127.0.0.1"
    admin_port: int = 8001
    api_keys: tuple[str, ...] = ()  #: none: the public routes are open
    allowed_origins: tuple[str, ...] = ()  #: whose web pages may use the public routes; `*`: any
    io_uring: bool = True  #: tokens for many clients leave in one system call, where the kernel has it and lets us
    limits: Limits = Limits()


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model of the pool: an engine that we start, or an OpenAI-compatible URL."""

    name: str
    kind: Literal["engine", "openai"] = "engine"
    model: str = ""  #: path or hub id of the weights; for `openai`, what to ask for (default: `name`, else its first)
    url: str = ""  #: for `openai`: base URL, with or without `/v1`
    api_key: str = ""  #: for `openai`
    like: str = ""  #: score it as this model of the checkpoint
    strength: float | None = None  #: or by its MMLU-Pro accuracy, 0..1
    engine_args: dict[str, Any] = {}  #: vLLM's own argument names, with _ or -
    env: dict[str, str] = {}  #: added to the engine's environment
    fast_path: bool = True  #: answer plain requests without vLLM's serving classes
    capabilities: tuple[str, ...] | None = None  #: for `openai`; an engine tells its own
    context_tokens: int = 0  #: for `openai`; an engine tells its own
    usd_per_hour: float = 2.0  #: of the whole GPU
    gpu_share: float | None = None  #: default: `gpu_memory_utilization`, else 1 / number of members
    prefill_tokens_per_s: float = 0.0  #: 0: learnt from load frames
    time_per_output_token_s: float = 0.0  #: 0: learnt from load frames
    mean_output_tokens: float = 200.0  #: start value; then learnt


class Routing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How decisions are made."""

    checkpoint: str = "default"  #: `default` or a path
    #: lambda: quality points given up to save one dollar. 100: a tenth of a point for a tenth of a cent, which is about
    #: what 200 tokens of an 8 B model cost on an H100.
    price: float = 100.0
    threshold: float | None = None  #: RouteLLM's rule for `auto`: strongest iff its win rate reaches this
    slo_ttft_s: float | None = None  #: members predicted to be slower are passed over while another is not
    judge: str = ""  #: the member that a causal_llm checkpoint asks; default: the one of the model it was trained with
    judge_timeout_s: float = 2.0  #: a verdict that takes longer is done without
    retry: bool = True  #: a request that streamed nothing is tried once on another member


class Supervision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How engine hosts are started, watched and restarted."""

    start_timeout_s: float = 1_800.0
    stop_timeout_s: float = 10.0
    restart: bool = True
    backoff_s: float = 1.0  #: doubled at each failed restart
    backoff_max_s: float = 60.0
    ping_s: float = 5.0  #: how often a silent host is asked
    ping_timeout_s: float = 30.0
    breaker_failures: int = 5  #: consecutive failures that open a member's breaker
    breaker_open_s: float = 10.0
    runtime_dir: str = ""  #: default: a private folder under $XDG_RUNTIME_DIR or the system's temporary folder
    log_dir: str = ""  #: engine logs; default: `runtime_dir`


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    version: int = CONFIG_VERSION
    server: Server = Server()
    pool: tuple[Member, ...] = ()
    routing: Routing = Routing()
    supervision: Supervision = Supervision()
    expanded_at: tuple[str, ...] = ()  #: where references stood, `$.pool[0].url`: what they brought is shown to nobody


def load(path: str | Path, env: Mapping[str, str] = os.environ) -> Config:
    """The config of a YAML file. Relative paths in it are relative to the file. Raises `ConfigError`."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read: {error}") from error
    return _resolve_paths(parse(text, source=str(path), env=env), path.parent)


def parse(text: str, *, source: str = "<config>", env: Mapping[str, str] = os.environ) -> Config:
    """The config of a YAML text; `source` names it in errors."""
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{source}: not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ConfigError(f"{source}: expected a mapping at the top, got {type(tree).__name__}")
    expanded_at: list[str] = []
    config = build(_expand(tree, env, source, "$", expanded_at), source=source)
    return msgspec.structs.replace(config, expanded_at=tuple(expanded_at))


def build(tree: Mapping[str, Any], *, source: str = "<config>") -> Config:
    """The config of plain objects, checked."""
    try:
        if "expanded_at" in tree:
            raise msgspec.ValidationError("Object contains unknown field `expanded_at`")
        config = msgspec.convert(tree, Config, strict=False)  # `${PORT}` is text
    except msgspec.ValidationError as error:
        raise ConfigError(f"{source}: {_explain(str(error), tree)}") from error
    check(config, source)
    return config


def from_environment(reference: str, at: str, env: Mapping[str, str] = os.environ) -> str:
    """What `${NAME}` stands for: of secrets that may not be given as such. Raises `ConfigError`."""
    if not _ENV_REFERENCE.fullmatch(reference):
        raise ConfigError(f"{at}: expected ${{NAME}} of an environment variable, so that the secret is kept nowhere")
    return str(_expand(reference, env, at, "$", []))


def runtime_root(env: Mapping[str, str] = os.environ) -> Path:
    """Folder under which a private runtime folder is made."""
    return Path(env.get("XDG_RUNTIME_DIR") or env.get("TMPDIR") or "/tmp")


def api_key_from_environment(env: Mapping[str, str] = os.environ) -> str | None:
    """`HEADGATE_API_KEY`; None where it is not set. Set but empty is not the same: it is a key that is missing."""
    return env.get("HEADGATE_API_KEY")


def fault_of_api_key(key: str) -> str:
    """Why no request can present `key`, or empty. A key that was left empty must not open the server."""
    if not key or key.isspace():
        return "the API key is empty; give it a value, or remove it to let everyone in"
    if key != key.strip():
        return "the API key begins or ends with white space, which is no part of a header's value"
    if not (key.isascii() and key.isprintable()):
        return "the API key holds characters that a header cannot carry; expected printable ASCII"
    return ""


def fault_of_origin(origin: str) -> str:
    """Why no browser sends `origin`, or empty: it would be allowed in vain."""
    if origin == "*":
        return ""
    match = _ORIGIN.fullmatch(origin)
    if match is None:
        return f"expected an origin as browsers send it, https://host or http://host:port, or '*', got {origin!r}"
    if (match["scheme"].lower(), match["port"]) in (("http", "80"), ("https", "443")):
        return f"browsers leave out a scheme's own port: expected {origin.rpartition(':')[0]!r}, got {origin!r}"
    return ""


def inherited_environment(env: Mapping[str, str] = os.environ) -> dict[str, str]:
    """What engine hosts inherit: everything but our own API key."""
    return {name: value for name, value in env.items() if name != "HEADGATE_API_KEY"}


def _expand(node: Any, env: Mapping[str, str], source: str, at: str, expanded_at: list[str]) -> Any:
    """`node` with `${NAME}` and `${NAME:-default}` replaced in every string; adds where to `expanded_at`."""
    if isinstance(node, dict):
        return {key: _expand(value, env, source, f"{at}.{key}", expanded_at) for key, value in node.items()}
    if isinstance(node, list):
        return [_expand(value, env, source, f"{at}[{i}]", expanded_at) for i, value in enumerate(node)]
    if not isinstance(node, str):
        return node
    if _ENV_REFERENCE.search(node):
        expanded_at.append(at)

    def value_of(match: re.Match[str]) -> str:
        name, default = match.groups()
        value = env.get(name, default)
        if value is None:
            raise ConfigError(f"{source}: environment variable {name!r} is not set - at `{at}`")
        return value

    return _ENV_REFERENCE.sub(value_of, node)


_STRUCT_AT = {"": Config, "server": Server, "server.limits": Limits, "routing": Routing, "supervision": Supervision}


def _explain(message: str, tree: Mapping[str, Any]) -> str:
    """msgspec's message, with the nearest right key where a key is unknown."""
    match = re.search(r"unknown field `([^`]+)`(?: - at `\$\.?([^`]*)`)?", message)
    if match is None:
        return message
    wrong, at = match.group(1), match.group(2) or ""
    struct = Member if at.startswith("pool") else _STRUCT_AT.get(at, Config)
    names = [name for name in struct.__struct_fields__ if name != "expanded_at"]
    near = difflib.get_close_matches(wrong, names, n=1, cutoff=0.5)
    where = f" - at `$.{at}`" if at else ""
    hint = f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(names)}"
    return f"unknown key {wrong!r}{where}{hint}"


def check(config: Config, source: str) -> None:
    """Refuse what types alone cannot. Raises `ConfigError`."""
    if config.version != CONFIG_VERSION:
        got = f"version {config.version} is not supported; expected {CONFIG_VERSION}"
        raise ConfigError(f"{source}: {got} - at `$.version`")
    if not config.pool:
        raise ConfigError(f"{source}: the pool is empty; expected at least one member - at `$.pool`")
    seen: set[str] = set()
    for i, member in enumerate(config.pool):
        _check_member(member, f"{source}: {{}} - at `$.pool[{i}]`", seen)
    for i, key in enumerate(config.server.api_keys):
        if why := fault_of_api_key(key):
            raise ConfigError(f"{source}: {why} - at `$.server.api_keys[{i}]`")
    for i, origin in enumerate(config.server.allowed_origins):
        if why := fault_of_origin(origin):
            raise ConfigError(f"{source}: {why} - at `$.server.allowed_origins[{i}]`")
    for name in ("port", "admin_port"):
        if not 0 <= getattr(config.server, name) <= 65535:
            raise ConfigError(f"{source}: a port is 0 to 65535 - at `$.server.{name}`")
    if config.routing.threshold is not None and not 0 <= config.routing.threshold <= 1:
        raise ConfigError(f"{source}: expected 0 to 1, got {config.routing.threshold} - at `$.routing.threshold`")
    if config.routing.judge_timeout_s <= 0:
        raise ConfigError(f"{source}: expected more than 0 seconds - at `$.routing.judge_timeout_s`")
    if config.routing.price < 0:
        raise ConfigError(f"{source}: expected a price of 0 or more - at `$.routing.price`")


def argument_name(name: str) -> str:
    """One spelling for a vLLM argument: `--max-model-len`, `max-model-len` and `max_model_len` are one."""
    return name.lstrip("-").replace("-", "_")


RESERVED_NAMES = ("auto", "headgate/auto")


def _check_member(member: Member, error: str, seen: set[str]) -> None:
    def refuse(why: str) -> None:
        raise ConfigError(error.format(why))

    if not member.name or member.name in RESERVED_NAMES or member.name.startswith("router-"):
        refuse(f"{member.name!r} cannot name a member: it is empty or means a route")
    if member.name in seen:
        refuse(f"two members are named {member.name!r}; names must differ")
    seen.add(member.name)
    if member.kind == "engine" and not member.model:
        refuse("an engine needs `model`: a path or hub id")
    if member.kind == "openai" and not member.url.startswith(("http://", "https://")):
        refuse(f"an openai member needs `url`: http(s)://..., got {member.url!r}")
    if member.like and member.strength is not None:
        refuse("give `like` or `strength`, not both")
    if member.strength is not None and not 0 <= member.strength <= 1:
        refuse(f"strength is an accuracy, 0 to 1, got {member.strength}")
    if member.gpu_share is not None and not 0 < member.gpu_share <= 1:
        refuse(f"gpu_share is above 0 and at most 1, got {member.gpu_share}")


def _resolve_paths(config: Config, base: Path) -> Config:
    """Paths that exist relative to the config file become absolute; hub ids stay as they are."""

    def resolve(name: str) -> str:
        here = base / name
        return str(here.resolve()) if name and here.exists() else name

    pool = tuple(
        msgspec.structs.replace(member, model=resolve(member.model)) if member.kind == "engine" else member
        for member in config.pool
    )
    routing = config.routing
    if routing.checkpoint != "default":
        routing = msgspec.structs.replace(routing, checkpoint=resolve(routing.checkpoint))
    return msgspec.structs.replace(config, pool=pool, routing=routing)
