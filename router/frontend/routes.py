"""The table of routes of one door: path and method to handler, with a hint where nothing fits."""

import difflib
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from router.errors import MethodNotAllowed, NotFound
from router.frontend.failure import Dialect

if TYPE_CHECKING:
    from router.frontend.exchange import Exchange

Handler = Callable[["Exchange"], None]


class Route:
    """One path, or with `prefix` all that begin with it. `open` routes ask for no API key."""

    __slots__ = ("allow", "dialect", "handlers", "name", "open", "path", "prefix")

    def __init__(
        self,
        path: str,
        handlers: dict[str, Handler],
        *,
        open: bool = False,
        prefix: bool = False,
        dialect: Dialect = "openai",
    ) -> None:
        self.path = path.encode()
        self.name = path + "{id}" if prefix else path
        self.prefix = prefix
        self.open = open
        self.dialect: Dialect = dialect
        self.handlers = {method.encode(): handler for method, handler in handlers.items()}
        if b"GET" in self.handlers:
            self.handlers.setdefault(b"HEAD", self.handlers[b"GET"])
        self.handlers[b"OPTIONS"] = self._options
        self.allow = ", ".join(sorted(method.decode() for method in self.handlers))

    def wrong_method(self, method: bytes) -> MethodNotAllowed:
        what = f"{self.name} does not take {_shown(method)}; it takes {self.allow}"
        return MethodNotAllowed(what, allow=self.allow)

    def _options(self, exchange: "Exchange") -> None:
        exchange.respond(204, b"", headers=f"allow: {self.allow}\r\n")


class Routes:
    """Looks routes up by the request's target."""

    __slots__ = ("_exact", "_prefixes")

    def __init__(self, routes: Iterable[Route]) -> None:
        routes = tuple(routes)
        self._exact = {route.path: route for route in routes if not route.prefix}
        self._prefixes = tuple(route for route in routes if route.prefix)

    def find(self, target: bytes) -> tuple[Route, bytes]:
        """The route of a request's target and its path, without query. Raises `NotFound` with the nearest route."""
        route = self._exact.get(target)
        if route is not None:
            return route, target
        path = path_of(target)
        route = self._exact.get(path)
        if route is not None:
            return route, path
        for route in self._prefixes:
            if path.startswith(route.path) and len(path) > len(route.path):
                return route, path
        raise NotFound(f"no route {_shown(path)}{self._hint(path)}", code="unknown_route")

    def _hint(self, path: bytes) -> str:
        names = [route.name for route in (*self._exact.values(), *self._prefixes)]
        near = difflib.get_close_matches(_shown(path), names, n=1, cutoff=0.6)
        if not near:
            near = [name for name in names if name.endswith(_shown(path)) or _shown(path).endswith(name)][:1]
        return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(names)}"


def path_of(target: bytes) -> bytes:
    """The path of a request's target, in origin or absolute form."""
    if target[:1] != b"/":
        scheme, _, rest = target.partition(b"://")
        if rest and scheme.lower() in (b"http", b"https"):
            host_end = rest.find(b"/")
            target = rest[host_end:] if host_end >= 0 else b"/"
    return target.partition(b"?")[0].partition(b"#")[0]


def _shown(text: bytes) -> str:
    """What a client sent, short and printable, for an error message."""
    shown = text[:80].decode("latin-1")
    return shown if shown.isprintable() else ascii(shown)[1:-1]
