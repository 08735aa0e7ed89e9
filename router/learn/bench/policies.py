"""Who answers: policies of the running pool, each a way to fill in `model`, and foreign endpoints.

`auto` and `router-...` names are decided by the server; the client decides for `random` (equal share), `jsq` (join the
shortest queue: the member with the fewest of this client's requests in flight) and `static` (a threshold tuned on the
workload's own labels, by held-out folds).
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Literal
from urllib.parse import urlsplit

import msgspec

from router import urls
from router.config import key_from_environment
from router.errors import ConfigError

Chooser = Literal["named", "random", "jsq", "static"]
CHOOSERS: tuple[str, ...] = ("random", "jsq", "static")


class Price(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of what an endpoint costs. None: not known."""

    usd_per_hour: float | None = None
    usd_per_million_in: float | None = None
    usd_per_million_out: float | None = None


class PoolMember(msgspec.Struct, frozen=True, kw_only=True):
    """One member of the running pool, as its admin port tells it."""

    name: str
    usd_per_hour: float = 0.0  #: of what it holds
    pid: int = 0  #: of its engine's host on this machine; 0: none
    cpu: bool = False  #: its engine runs on CPU cores, so that its CPU seconds are engine seconds


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An OpenAI-compatible server."""

    url: str  #: scheme, host, port and prefix
    query: str = ""
    authorization: str = ""  #: header value

    @property
    def path(self) -> str:
        prefix = urlsplit(self.url).path.rstrip("/")
        return f"{prefix}/v1/chat/completions" + (f"?{self.query}" if self.query else "")

    @property
    def host(self) -> str:
        return urlsplit(self.url).netloc.rpartition("@")[2]


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """One row of the comparison."""

    name: str
    endpoint: Endpoint
    chooser: Chooser = "named"
    models: tuple[str, ...]  #: one where it is `named`, else those to choose from
    members: tuple[PoolMember, ...] = ()  #: that may answer and that it is charged for
    price: Price = Price()  #: where no member's is known
    headers: tuple[str, ...] = ()
    foreign: bool = False  #: not of the running pool


def share(models: Sequence[str], seed: int, round: int, number: int) -> str:
    """`random`'s choice: each model equally often, the same at every run."""
    text = f"{seed}:{round}:{number}".encode()
    drawn = int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")
    return models[drawn % len(models)]


def shortest(models: Sequence[str], in_flight: Mapping[str, int], number: int) -> str:
    """`jsq`'s choice: of equally short queues the next in turn."""
    turned = [models[(number + i) % len(models)] for i in range(len(models))]
    return min(turned, key=lambda model: in_flight.get(model, 0))


def endpoint(url: str, key: str, at: str) -> Endpoint:
    """Raises ConfigError that names `at` and shows nothing secret."""
    try:
        base = urls.parse(url)
    except ValueError as error:
        raise ConfigError(f"{at}: {urls.shown(url)}: {error}") from error
    if any(not c.isprintable() or not c.isascii() for c in key):
        raise ConfigError(f"{at}: expected a key of printable ASCII characters")
    authorization = f"Bearer {key}" if key else base.authorization
    return Endpoint(url=base.shown, query=base.query, authorization=authorization)


def of_pool(names: Sequence[str], members: Sequence[PoolMember], at: Endpoint) -> list[Policy]:
    """Policies of the running pool. Empty `names`: all that this pool can have, the static threshold left out.

    Raises ConfigError for a policy that this pool cannot have.
    """
    several = len(members) > 1
    usual = ("auto", *(m.name for m in members), *(("random", "jsq") if several else ())) if several else ("auto",)
    out = []
    for name in dict.fromkeys(names or usual):
        if name in CHOOSERS and not several:
            raise ConfigError(f"--policy {name}: expected a pool of at least two members, got {len(members)}")
        chooser: Chooser = msgspec.convert(name, Chooser) if name in CHOOSERS else "named"
        own = tuple(member for member in members if member.name == name)
        models = (name,) if chooser == "named" else tuple(member.name for member in members)
        out.append(Policy(name=name, endpoint=at, chooser=chooser, models=models, members=own or tuple(members)))
    return out


def target(text: str) -> Policy:
    """`NAME=URL[,model=...][,key-env=...][,usd-hour=...][,usd-per-million=IN/OUT][,pid=...[+...]]`. Raises
    ConfigError."""
    name, equals, rest = text.partition("=")
    url, *words = rest.split(",")
    if not (name and equals and url):
        raise ConfigError(f"--target: expected NAME=URL[,model=...], got {urls.shown(text)!r}")
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if key not in _KEYS or not equals or not value:
            raise ConfigError(f"--target {name}: expected one of {', '.join(f'{k}=...' for k in _KEYS)}; got {key!r}")
        given[key] = value
    key = key_from_environment(given["key-env"], f"--target {name}: key-env") if "key-env" in given else ""
    at = f"--target {name}"
    pids = [int(_number(pid, f"{at}: pid")) for pid in given["pid"].split("+")] if "pid" in given else []
    hourly = _number(given["usd-hour"], f"{at}: usd-hour") if "usd-hour" in given else None
    price = _price(given.get("usd-per-million", ""), at, hourly)
    members = [
        PoolMember(name=f"{name}-{i}" if i else name, usd_per_hour=hourly or 0.0, pid=pid, cpu=True)
        for i, pid in enumerate(pids)
    ]
    return Policy(
        name=name, endpoint=endpoint(url, key, at), models=(given.get("model", name),), price=price, foreign=True,
        members=tuple(members),
    )  # fmt: skip


_KEYS = ("model", "key-env", "usd-hour", "usd-per-million", "pid")


def _price(per_million: str, at: str, hourly: float | None) -> Price:
    if not per_million:
        return Price(usd_per_hour=hourly)
    first, slash, second = per_million.partition("/")
    inputs = _number(first, f"{at}: usd-per-million")
    outputs = _number(second, f"{at}: usd-per-million") if slash else inputs
    return Price(usd_per_hour=hourly, usd_per_million_in=inputs, usd_per_million_out=outputs)


def _number(text: str, at: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < 1e12:  # NaN is refused too
        raise ConfigError(f"{at}: expected a number from 0, got {text!r}")
    return value
