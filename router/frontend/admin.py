"""The admin routes, on a port of their own: what an operator sees, and drain. Secrets are never shown."""

import re
from collections.abc import Callable
from urllib.parse import urlsplit, urlunsplit

import msgspec

from router.errors import BadRequest
from router.frontend.exchange import Exchange
from router.frontend.public import probes
from router.frontend.routes import Handler, Route, Routes
from router.observe.metrics import Metrics
from router.pipeline.base import Service

HIDDEN = "***"
_SECRET = re.compile(r"key|token(?!s|izer)|secret|password|credential|authorization", re.IGNORECASE)
_encode = msgspec.json.Encoder().encode


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
            Route("/config", {"GET": _not_from_a_page(self._show_config)}),
            Route("/members", {"GET": _not_from_a_page(self._show_members)}),
            Route("/drain", {"POST": _not_from_a_page(self._begin_drain)}),
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


def _not_from_a_page(handler: Handler) -> Handler:
    """Web pages can send requests to a loopback port, and by DNS rebinding read the answers: keep them out."""

    def guarded(exchange: Exchange) -> None:
        host = _host_name(exchange.headers.get(b"host", b"").decode("latin-1"))
        if b"origin" in exchange.headers or not (_is_address(host) or host == "localhost"):
            raise BadRequest("the admin port is asked by address or as localhost, and not from web pages")
        handler(exchange)

    return guarded


def _host_name(host: str) -> str:
    return host[1:].partition("]")[0] if host.startswith("[") else host.rpartition(":")[0] or host


def _is_address(host: str) -> bool:
    return ":" in host or re.fullmatch(r"\d+\.\d+\.\d+\.\d+", host) is not None
