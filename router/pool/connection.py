"""HTTP connections to upstreams, and bounded reads from them. Bytes left over from one answer are never read
as part of another.

Imports aiohttp, so this module is imported only when an upstream is configured.
"""

from functools import partial
from typing import Any

import aiohttp
from aiohttp.client_proto import ResponseHandler

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
#: Less than the 5 s after which `vllm serve` and most others close an idle connection: a request that crosses their
#: close would fail.
_KEPT_S = 4.0
#: Idle connections that turned out unusable, one after another, until the upstream is taken for broken.
_MOST_TRIES = 16


class Handler(ResponseHandler):  # type: ignore[misc]
    """Tells whoever reads a body that its framing is broken, by a malformed chunk for example: aiohttp ends the
    connection then, and leaves the reader of the body waiting."""

    _body: aiohttp.StreamReader | None = None

    def feed_data(self, data: Any, size: int = 0) -> None:
        """The head and the body of an answer, as they begin."""
        self._body = data[1]
        super().feed_data(data, size)

    def set_exception(self, exc: BaseException, *cause: BaseException) -> None:
        super().set_exception(exc, *cause)
        body, self._body = self._body, None
        if body is not None and not body.is_eof() and body.exception() is None:
            body.set_exception(aiohttp.ClientPayloadError(f"the answer broke off: {exc!r}"))


class Connector(aiohttp.TCPConnector):  # type: ignore[misc]
    """Drops a kept connection on which bytes came that no request asked for: they would be read as the next answer."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self._factory = partial(Handler, loop=self._loop)

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[aiohttp.tracing.Trace],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109
    ) -> aiohttp.connector.Connection:
        for _ in range(_MOST_TRIES):
            connection = await super().connect(req, traces, timeout)
            if connection.protocol is not None and not connection.protocol.should_close:
                return connection
            connection.close()
        raise aiohttp.ClientConnectionError("it sends bytes that no request asked for")


def open_session(headers: dict[str, str], connect_timeout_s: float) -> aiohttp.ClientSession:
    """Without anything that one request could leave to the next: no cookies, no proxies of the environment."""
    return aiohttp.ClientSession(
        # Admission bounds the requests in flight; a bound here would only make healthy requests wait and time out.
        connector=Connector(limit=0, keepalive_timeout=_KEPT_S),
        cookie_jar=aiohttp.DummyCookieJar(),
        # A small compressed answer may be a large one.
        headers={"accept-encoding": "identity"} | headers,
        timeout=aiohttp.ClientTimeout(total=None, connect=connect_timeout_s),
    )


async def opening(response: aiohttp.ClientResponse) -> bytes:
    """The first bytes that are not white space; empty where the body has none."""
    async for data in response.content.iter_any():
        first: bytes = data.removeprefix(_BYTE_ORDER_MARK).lstrip()
        if first:
            return first
    return b""


async def rest_of(response: aiohttp.ClientResponse, most_bytes: int, begun: bytes = b"") -> bytes:
    """The body that began with `begun`, of which what lies beyond `most_bytes` is not read."""
    parts, size = [begun], len(begun)
    async for data in response.content.iter_any():
        parts.append(data)
        size += len(data)
        if size > most_bytes:
            break
    return b"".join(parts)


def retry_after_s(response: aiohttp.ClientResponse) -> float:
    """What the upstream asks for, within an hour; else a second."""
    told = response.headers.get("retry-after", "").strip()
    return float(min(max(int(told), 1), 3600)) if told.isascii() and told.isdigit() and len(told) < 9 else 1.0
