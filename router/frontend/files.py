"""`/v1/files` in OpenAI's shape: sent, listed, shown, read and deleted by whoever's key sent them."""

import asyncio
from collections.abc import Coroutine
from typing import Any
from urllib.parse import parse_qsl

import msgspec

from router.errors import BadRequest, BatchesOff, NotFound
from router.frontend.download import Download
from router.frontend.exchange import Exchange
from router.frontend.later import Later
from router.frontend.routes import Route, shown
from router.frontend.upload import Upload
from router.pipeline.batch.batches import Batches
from router.pipeline.service import Service
from router.pipeline.threads import Threads

_encode = msgspec.json.Encoder().encode
_PATH = "/v1/files"
_CONTENT = "content"
_MOST_LISTED = 10_000


class Files:
    """Handlers over one service. `threads` read forms and files."""

    def __init__(self, service: Service, threads: Threads) -> None:
        self._service = service
        self._threads = threads
        self._sending: set[asyncio.Future[None]] = set()  # the loop alone would let go of them

    def routes(self) -> tuple[Route, ...]:
        return (
            Route(
                _PATH,
                {"GET": self._list, "POST": self._send},
                takes=self._take,
                queried=True,
                about="files of batches: send, list",
            ),
            Route(_PATH + "/", {"GET": self._show, "DELETE": self._delete}, prefix=True, about="one of them"),
        )

    def _take(self, exchange: Exchange) -> Upload:
        return Upload(exchange, batches_of(self._service), self._threads)

    def _send(self, exchange: Exchange) -> None:
        upload = exchange.incoming
        assert isinstance(upload, Upload)
        upload.answer(exchange)

    def _list(self, exchange: Exchange) -> None:
        asked = parameters(exchange)
        order = asked.get("order", "desc")
        if order not in ("asc", "desc"):
            raise BadRequest(f"`order`: expected `asc` or `desc`, got {order[:40]!r}", param="order")
        page = batches_of(self._service).files(
            exchange.key_id,
            purpose=asked.get("purpose"),
            order=order,
            after=asked.get("after"),
            limit=limit_of(asked, _MOST_LISTED, _MOST_LISTED),
        )
        exchange.respond(200, _encode(page))

    def _show(self, exchange: Exchange) -> None:
        batches, id, last = batches_of(self._service), *ends_of(exchange, _PATH)
        if last == _CONTENT:
            file = batches.file(exchange.key_id, id)
            sending = asyncio.ensure_future(self._content(exchange, batches, file.id))
            self._sending.add(sending)
            sending.add_done_callback(self._sending.discard)
        elif last:
            raise no_such(exchange, f"{_PATH}/ID, {_PATH}/ID/{_CONTENT}")
        else:
            exchange.respond(200, _encode(batches.file(exchange.key_id, id)))

    def _delete(self, exchange: Exchange) -> None:
        batches, id, last = batches_of(self._service), *ends_of(exchange, _PATH)
        if last:
            raise no_such(exchange, f"{_PATH}/ID")

        async def delete() -> bytes:
            await batches.delete_file(exchange.key_id, id)
            return _encode({"id": id, "object": "file", "deleted": True})

        later(exchange, delete())

    async def _content(self, exchange: Exchange, batches: Batches, id: str) -> None:
        try:
            file, descriptor = await batches.open_file(exchange.key_id, id)
        except Exception as error:
            exchange.answer_error(error)
            return
        await Download(exchange, descriptor, file.bytes, self._threads).send()


def batches_of(service: Service) -> Batches:
    """Raises `BatchesOff`."""
    if service.batches is None:
        raise BatchesOff("this server takes no files and batches: no `batches.path` in its config")
    return service.batches


def later(exchange: Exchange, answer: Coroutine[Any, Any, bytes]) -> None:
    Later(exchange, asyncio.ensure_future(answer))


def parameters(exchange: Exchange) -> dict[str, str]:
    """Of the query; the first of equal names. Raises `BadRequest`."""
    try:
        pairs = parse_qsl(exchange.query.decode("latin-1"), max_num_fields=32)
    except ValueError as error:
        raise BadRequest(f"the query cannot be read: {error}") from None
    return dict(reversed(pairs))


def limit_of(asked: dict[str, str], usual: int, most: int) -> int:
    """Raises `BadRequest`."""
    given = asked.get("limit", str(usual))
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise BadRequest(f"`limit`: expected 1 to {most}, got {given[:40]!r}", param="limit")
    return int(given)


def ends_of(exchange: Exchange, path: str) -> tuple[str, str]:
    """The id below `path`, and what stands behind it."""
    id, _, last = exchange.path[len(path) + 1 :].decode("latin-1").partition("/")
    return id, last


def no_such(exchange: Exchange, there: str) -> NotFound:
    return NotFound(f"no route {shown(exchange.path)}; there are {there}", code="unknown_route")
