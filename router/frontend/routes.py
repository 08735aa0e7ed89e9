"""The table of routes of one listener: path and method to handler, with a hint where nothing fits."""

import re
from collections.abc import Callable, Iterable, Sequence

from router.errors import Forbidden, MethodNotAllowed, NotFound
from router.frontend.exchange import Exchange, Handler, Incoming
from router.frontend.failure import Dialect
from router.frontend.origins import is_preflight, preflight_lines

#: Of a path's percent-encodings, those that say the same as the character itself (RFC 3986, 2.3): letters, digits, -._~
_UNRESERVED = re.compile(rb"%(2[DE]|3[0-9]|[46][1-9A-F]|[57][0-9A]|5F|7E)", re.IGNORECASE)
#: No route is longer, however it is encoded: a longer path is not looked at closely.
_LONGEST_LOOKED_AT = 128
#: Routes that a refusal names.
_LISTED = 16


class Route:
    """One path, or with `prefix` all that begin with it. `open` routes ask for no API key."""

    __slots__ = (
        "about", "allow", "dialect", "handlers", "name", "open", "path", "prefix", "queried", "reads_json", "takes",
    )  # fmt: skip

    def __init__(
        self,
        path: str,
        handlers: dict[str, Handler],
        *,
        open: bool = False,
        prefix: bool = False,
        dialect: Dialect = "openai",
        reads_json: bool = False,
        queried: bool = False,
        takes: Callable[[Exchange], Incoming] | None = None,
        about: str = "",
    ) -> None:
        """`about`: what it does, in a few words, for `/docs`. `queried`: its handlers read the target's query, as those
        of a `prefix` do. `takes`: what takes the body of a POST as it comes; it raises `RouterError`."""
        self.queried = queried or prefix
        self.takes = takes
        self.about = about
        self.path = path.encode()
        self.name = path + "{id}" if prefix else path
        self.prefix = prefix
        self.open = open
        self.dialect: Dialect = dialect
        self.reads_json = reads_json
        self.handlers = {method.encode(): handler for method, handler in handlers.items()}
        if b"GET" in self.handlers:
            self.handlers.setdefault(b"HEAD", self.handlers[b"GET"])
        self.handlers[b"OPTIONS"] = self._options
        self.allow = ", ".join(sorted(method.decode() for method in self.handlers))

    def wrong_method(self, method: bytes) -> MethodNotAllowed:
        what = f"{self.name} does not take {shown(method)}; it takes {self.allow}"
        return MethodNotAllowed(what, allow=self.allow)

    def _options(self, exchange: Exchange) -> None:
        lines = f"allow: {self.allow}\r\n"
        if exchange.cors and is_preflight(exchange.headers):
            lines += preflight_lines(exchange.headers, self.allow)
        exchange.respond(204, b"", headers=lines)


class Routes:
    """Looks routes up by the request's target."""

    __slots__ = ("_dialects", "_exact", "_near", "_prefixes", "_root", "_there")

    def __init__(self, routes: Iterable[Route], root: str = "") -> None:
        """`root`: what a proxy leaves in front of paths; they are looked up with it and without."""
        routes = tuple(routes)
        self._root = root.encode()
        self._exact = {route.path: route for route in routes if not route.prefix}
        self._exact[b"*"] = Route("*", {}, open=True)  # `OPTIONS *` asks of the server as a whole
        self._prefixes = tuple(route for route in routes if route.prefix)
        self._there = _there([route.name for route in routes])
        self._near = _near(route.name for route in routes if not route.prefix)
        self._dialects = tuple((route.path, route.dialect) for route in routes if route.dialect != "openai")

    def find(self, target: bytes) -> tuple[Route, bytes]:
        """The route of a request's target and its path, without query. Raises `NotFound` with the nearest route."""
        route = self._exact.get(target)
        if route is not None:
            return route, target
        path = self._path(target)
        route = self._exact.get(path)
        if route is not None:
            return route, path
        for route in self._prefixes:
            if path.startswith(route.path) and len(path) > len(route.path):
                return route, path
        raise NotFound(f"no route {shown(path)}{self._hint(path)}", code="unknown_route")

    def dialect_of(self, target: bytes) -> Dialect:
        """Whose errors are given for a target that need not be a route: those of the route that it stands below."""
        path = self._path(target) + b"/"
        for start, dialect in self._dialects:
            if path.startswith(start + b"/"):
                return dialect
        return "openai"

    def _path(self, target: bytes) -> bytes:
        path = path_of(target)
        return path[len(self._root) :] if self._root and path.startswith(self._root + b"/") else path

    def _hint(self, path: bytes) -> str:
        if len(path) <= _LONGEST_LOOKED_AT:
            name = shown(path).lower()
            for text in (name, *_ends(name), *_one_less(name)):
                if nearest := self._near.get(text):
                    return f"; did you mean {nearest}?"
        return f"; there are {self._there}"


def _there(names: Sequence[str]) -> str:
    """All of them, or the first and where the others are told."""
    more = len(names) - _LISTED
    if more <= 0:
        return ", ".join(names)
    where = " (/openapi.json has all)" if "/openapi.json" in names else ""
    return f"{', '.join(names[:_LISTED])} and {more} more{where}"


def _near(names: Iterable[str]) -> dict[str, str]:
    """Names by what is mistaken for them: one character less, or without the first parts. Found without a search."""
    near: dict[str, str] = {}
    for name in sorted(names, key=len):
        for text in (name, *_ends(name), *_one_less(name)):
            near.setdefault(text, name)
    return near


def _one_less(text: str) -> list[str]:
    """`text` without each of its characters in turn. Two texts that share one differ by one slip of the keyboard."""
    return [text[:i] + text[i + 1 :] for i in range(len(text))]


def _ends(text: str) -> list[str]:
    return [text[i:] for i, character in enumerate(text) if character == "/" and i]


def path_of(target: bytes) -> bytes:
    """The path of a request's target, in origin or absolute form, without query; of several spellings the plainest."""
    if target[:1] != b"/":
        scheme, _, rest = target.partition(b"://")
        if rest and scheme.lower() in (b"http", b"https"):
            host_end = rest.find(b"/")
            target = rest[host_end:] if host_end >= 0 else b"/"
    path = target.partition(b"?")[0].partition(b"#")[0]
    if b"%" in path and len(path) <= _LONGEST_LOOKED_AT:
        path = _UNRESERVED.sub(lambda match: bytes((int(match[1], 16),)), path)
    return path[:-1] if len(path) > 1 and path.endswith(b"/") else path


def shown(text: bytes) -> str:
    """What a client sent, short and printable, for an error message."""
    shown = text[:80].decode("latin-1")
    return shown if shown.isprintable() else ascii(shown)[1:-1]


def not_allowed(origin: bytes) -> Forbidden:
    """Of a page that may not ask."""
    what = f"the origin {shown(origin)} is not one of `server.allowed_origins`"
    return Forbidden(what, code="origin_not_allowed")


def refuse_page(exchange: Exchange) -> None:
    """A browser sends a form, or a body without a type, for pages of any site, without asking first, but says whose
    page it is. Raises `Forbidden` where that one may not ask."""
    origin = exchange.headers.get(b"origin")
    if origin is not None and not exchange.cors:
        raise not_allowed(origin)
