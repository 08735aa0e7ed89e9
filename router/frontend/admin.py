"""The admin routes, on a port of their own: what an operator sees, and drain. Secrets are never shown."""

import ipaddress
from collections.abc import Callable

import msgspec

from router.errors import BadRequest
from router.frontend.exchange import Exchange
from router.frontend.member_changes import MemberChanges, shown_changes
from router.frontend.operations import operations
from router.frontend.probes import probes
from router.frontend.redact import redacted
from router.frontend.routes import Route, Routes
from router.observe.metrics import Metrics
from router.pipeline.service import Service

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
        config: Callable[[], msgspec.Struct],
        drain: Callable[[], None],
        draining: Callable[[], bool],
    ) -> None:
        self._draining = draining
        self._service = service
        self._metrics = metrics
        self._config = config
        self._drain = drain

    def routes(self) -> Routes:
        changes = MemberChanges(self._service)
        return Routes((
            *probes(self._service, self._metrics, self._draining),
            Route("/config", {"GET": self._show_config}, open=True),
            Route("/members", {"GET": self._show_members, "POST": changes.add}, open=True, about="members; add one"),
            operations(self._service, changes),
            Route("/changes", {"DELETE": changes.cancel}, open=True, about="give up the change under way"),
            Route("/drain", {"POST": self._begin_drain}, open=True),
        ))  # fmt: skip

    def _show_config(self, exchange: Exchange) -> None:
        exchange.respond(200, msgspec.json.format(_encode(redacted(self._config())), indent=2))

    def _show_members(self, exchange: Exchange) -> None:
        # An upstream's address and an engine's last words may hold secrets too.
        prices = self._service.prices()
        told = {"members": self._service.members(), "prices": prices, **shown_changes(self._service)}
        exchange.respond(200, msgspec.json.format(_encode(redacted(told)), indent=2))

    def _begin_drain(self, exchange: Exchange) -> None:
        self._drain()
        exchange.respond(202, _encode({"status": "draining", "in_flight": self._service.in_flight()}))


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
