"""`GET /v1/responses/{id}` and `POST /v1/responses/{id}/cancel`: asked of the member that has the answer."""

import re
from urllib.parse import parse_qs

import msgspec

from router.dialects.decode import AUTO
from router.errors import MethodNotAllowed, NotFound
from router.frontend.answer import Answer
from router.frontend.exchange import Exchange
from router.frontend.routes import Route
from router.ipc.spec import EngineCall
from router.pipeline.service import Service
from router.types import STORED_PATH, Query

_CANCEL = "/cancel"
#: What vLLM's own ids and those that clients choose are made of.
_ID = re.compile(r"[\w.:~-]{1,256}", re.ASCII)
#: As pydantic reads a switch.
_YES = frozenset({"1", "on", "t", "true", "y", "yes"})


def stored_answers(service: Service) -> Route:
    def retrieve(exchange: Exchange) -> None:
        _ask(exchange, service, "")

    def cancel(exchange: Exchange) -> None:
        if not exchange.path[len(STORED_PATH) :].endswith(_CANCEL.encode()):  # an answer may be called `cancel`
            raise MethodNotAllowed(f"{STORED_PATH}{{id}} does not take POST; it takes GET", allow="GET, HEAD, OPTIONS")
        _ask(exchange, service, _CANCEL)

    about = "a stored answer; with /cancel, by POST, its end"
    return Route(
        STORED_PATH, {"GET": retrieve, "POST": cancel}, prefix=True, dialect="responses", reads_json=False, about=about
    )


def _ask(exchange: Exchange, service: Service, what: str) -> None:
    exchange.identify()
    asked = exchange.path[len(STORED_PATH) :].decode("latin-1").removesuffix(what)
    if not _ID.fullmatch(asked):
        raise NotFound(f"Response with id {asked[:80]!r} not found.", param="response_id")
    query_string = "" if exchange.method == b"HEAD" else exchange.query.decode("latin-1")
    streamed = not what and parse_qs(query_string).get("stream", [""])[-1].lower() in _YES
    query = Query(
        kind="stored",
        model=AUTO,
        turns=(),
        stream=streamed,
        request_id=exchange.request_id,
        key_id=exchange.key_id,
        response_id=asked,
    )
    permit = exchange.connection.listener.gate.take(exchange.key_id, exchange.body)
    try:
        exchange.body = msgspec.json.encode(EngineCall(path=f"{STORED_PATH}{asked}{what}", query=query_string))
        Answer(exchange, query).submit(service, query, permit)
    except BaseException:
        permit.settle()
        raise
