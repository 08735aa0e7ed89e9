"""The admin routes, on a port of their own: what an operator sees, and drain. Secrets are never shown."""

import ipaddress
import re
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import msgspec

from router.errors import BadRequest
from router.frontend.exchange import Exchange
from router.frontend.public import probes
from router.frontend.routes import Route, Routes
from router.observe.metrics import Metrics
from router.pipeline.base import Service

HIDDEN = "***"
_SECRET = re.compile(r"key|token(?!s|izer)|secret|password|credential|authorization", re.IGNORECASE)
_encode = msgspec.json.Encoder().encode
#: What `sec-fetch-site` says of a request that no page of another origin has caused.
_NO_OTHER_SITE = (b"none", b"same-origin")


class Admin:
    """Handlers over one service. `drain` begins a drain and returns at once; `draining` tells whether one has begun."""

    __slots__ = ("_config", "_drain", "_draining", "_metrics", "_service")

    def __init__(
        self,
        service: Service,
        metrics: Metrics,
        config: msgspec.Struct,
        drain: Callable[[], None],
        draining: Callable[[], bool],
    ) -> None:
        self._draining = draining
        self._service = service
        self._metrics = metrics
        self._config = config
        self._drain = drain

    def routes(self) -> Routes:
        return Routes((
            *probes(self._service, self._metrics, self._draining),
            Route("/config", {"GET": self._show_config}, open=True),
            Route("/members", {"GET": self._show_members}, open=True),
            Route("/drain", {"POST": self._begin_drain}, open=True),
        ))  # fmt: skip

    def _show_config(self, exchange: Exchange) -> None:
        exchange.respond(200, msgspec.json.format(_encode(redacted(self._config)), indent=2))

    def _show_members(self, exchange: Exchange) -> None:
        exchange.respond(200, msgspec.json.format(_encode({"members": self._service.members()}), indent=2))

    def _begin_drain(self, exchange: Exchange) -> None:
        self._drain()
        exchange.respond(202, _encode({"status": "draining", "in_flight": self._service.in_flight()}))


def redacted(config: msgspec.Struct) -> object:
    """`config` as plain objects; keys, tokens, passwords in URLs and all environment values are hidden."""
    return _redact(msgspec.to_builtins(config), "")


def _redact(node: object, name: str) -> object:
    if isinstance(node, dict):
        hide = name == "env"
        return {key: HIDDEN if hide and value else _redact(value, str(key)) for key, value in node.items()}
    if isinstance(node, list | tuple):
        return [_redact(item, name) for item in node]
    if isinstance(node, str) and node:
        if _SECRET.search(name):
            return HIDDEN
        if name == "url":
            return _without_login(node)
    return node


def _without_login(url: str) -> str:
    parts = urlsplit(url)
    if "@" not in parts.netloc:
        return url
    return urlunsplit(parts._replace(netloc=f"{HIDDEN}@{parts.netloc.rpartition('@')[2]}"))


def refuse_pages(headers: dict[bytes, bytes]) -> None:
    """Guard of every route of the admin port. Raises `BadRequest`.

    Web pages can send requests to a loopback port, and by DNS rebinding read the answers: `host` is their name then.
    """
    host = _host_name(headers.get(b"host", b"").decode("latin-1"))
    by_page = b"origin" in headers or headers.get(b"sec-fetch-site", b"none") not in _NO_OTHER_SITE
    if by_page or not (host.lower() == "localhost" or _is_address(host)):
        raise BadRequest("the admin port is asked by address or as localhost, and not from web pages")


def _host_name(host: str) -> str:
    """Without the port. `host` has the form of a name or an address: `reader` sees to that."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
