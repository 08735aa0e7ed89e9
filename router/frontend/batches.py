"""`/v1/batches` in OpenAI's shape: begun, listed, shown and cancelled by whoever's key began them."""

import msgspec

from router.dialects.batches import read_batch
from router.errors import BadRequest
from router.frontend.exchange import Exchange, Handler
from router.frontend.files import batches_of, ends_of, later, limit_of, no_such, parameters
from router.frontend.routes import Route, refuse_page
from router.pipeline.service import Service

_encode = msgspec.json.Encoder().encode
_PATH = "/v1/batches"
_CANCEL = "cancel"
_USUALLY_LISTED, _MOST_LISTED = 20, 100


class BatchRoutes:
    """Handlers over one service."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def routes(self) -> tuple[Route, ...]:
        one: dict[str, Handler] = {"GET": self._show, "POST": self._cancel}
        return (
            Route(
                _PATH,
                {"GET": self._list, "POST": self._create},
                reads_json=True,
                queried=True,
                about="batches: begin, list",
            ),
            Route(_PATH + "/", one, prefix=True, about="one of them; ID/cancel cancels it"),
        )

    def _create(self, exchange: Exchange) -> None:
        batches = batches_of(self._service)
        new, exchange.body = read_batch(exchange.body), b""

        async def create() -> bytes:
            return _encode(await batches.create(exchange.key_id, new))

        later(exchange, create())

    def _list(self, exchange: Exchange) -> None:
        asked = parameters(exchange)
        limit = limit_of(asked, _USUALLY_LISTED, _MOST_LISTED)
        page = batches_of(self._service).batches(exchange.key_id, after=asked.get("after"), limit=limit)
        exchange.respond(200, _encode(page))

    def _show(self, exchange: Exchange) -> None:
        batches, id, last = batches_of(self._service), *ends_of(exchange, _PATH)
        if last:
            raise no_such(exchange, f"{_PATH}/ID")
        exchange.respond(200, _encode(batches.batch(exchange.key_id, id)))

    def _cancel(self, exchange: Exchange) -> None:
        batches, id, last = batches_of(self._service), *ends_of(exchange, _PATH)
        refuse_page(exchange)
        if last != _CANCEL:
            raise BadRequest(f"{_PATH}/ID is asked by GET; {_PATH}/ID/{_CANCEL} by POST")

        async def cancel() -> bytes:
            return _encode(await batches.cancel(exchange.key_id, id))

        later(exchange, cancel())
