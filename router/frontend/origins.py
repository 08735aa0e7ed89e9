"""Which web pages may use the public routes (CORS): those of `server.allowed_origins`, by default none."""

import re

from router.config import fault_of_origin
from router.errors import ConfigError

#: Answer headers that a page may read besides the few that it always may.
_EXPOSED = ", ".join((
    "x-request-id", "retry-after", "retry-after-ms", "x-headgate-model", "x-headgate-reason", "x-headgate-score",
    "x-headgate-threshold", "x-headgate-overhead-ms", "x-headgate-decision-id", "x-headgate-terms",
))  # fmt: skip
_NAMES = re.compile(rb"[A-Za-z0-9_, -]{1,4096}")
#: How long a browser may remember a preflight's answer; browsers have lower bounds of their own.
_MAX_AGE_S = 600


class Origins:
    """The allowed origins. A page's origin is compared as a whole, in any case."""

    __slots__ = ("_all", "_allowed")

    def __init__(self, allowed: tuple[str, ...] = ()) -> None:
        """Raises `ConfigError` on what is no origin."""
        for i, origin in enumerate(allowed):
            if why := fault_of_origin(origin):
                raise ConfigError(f"{why} - at `$.server.allowed_origins[{i}]`")
        self._all = "*" in allowed
        self._allowed = frozenset(origin.lower().encode() for origin in allowed)

    def lines(self, origin: bytes) -> str:
        """Header lines of every answer, errors included, to a page of `origin`; empty where it is not allowed."""
        if self._all:
            shown = "*"
        elif origin.lower() in self._allowed:
            shown = origin.decode("ascii")
        else:
            return ""
        return f"access-control-allow-origin: {shown}\r\naccess-control-expose-headers: {_EXPOSED}\r\nvary: origin\r\n"


def preflight_lines(headers: dict[bytes, bytes], allow: str) -> str:
    """What an allowed page is told before it sends: each method of the route, each header that it asked for."""
    lines = f"access-control-allow-methods: {allow}\r\naccess-control-max-age: {_MAX_AGE_S}\r\n"
    names = headers.get(b"access-control-request-headers", b"")
    if _NAMES.fullmatch(names):
        lines += f"access-control-allow-headers: {names.decode('ascii')}\r\n"
    return lines


def is_preflight(headers: dict[bytes, bytes]) -> bool:
    return b"origin" in headers and b"access-control-request-method" in headers
