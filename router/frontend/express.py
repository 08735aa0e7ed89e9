"""The common request's way through a door: opened where the pipeline has one, left again for all that is not common.

A plain chat request is read, decided, handed over and answered natively (`router.native.express`), to the byte as
`exchange` and `answer` would. As soon as anything else happens to it - an error, a client that leaves, a drain - it
becomes the ordinary exchange that it stands for, and goes on as that.
"""

from typing import Any

from msgspec.structs import replace

from router.dialects.decode import decode
from router.errors import RouterError
from router.frontend.answer import Answer, describe
from router.frontend.connection import Connection
from router.frontend.door import Door
from router.frontend.exchange import Exchange, next_number, process_id
from router.frontend.reply import Heads
from router.native.express import Passage
from router.native.steps import Steps
from router.pipeline.base import Service, Ticket
from router.pipeline.record import query_of
from router.types import API_PATHS, Query

_TARGET = API_PATHS["chat"]


class _Over(Exchange):
    """In the place of a passage that could not become an exchange and a request: all that is said of it is ignored."""

    def __init__(self) -> None: ...

    def _ignore(self, what: object = None) -> None: ...

    gone = chunk = done = fail = handoff = refuse = _ignore  # type: ignore[assignment]


_OVER = _Over()


def open_express(door: Door, service: Service) -> None:
    """Let plain chat requests of `door` take the service's common way, if it has one, and count who takes it."""
    express = service.express
    door.steps = Steps() if express is None else express.steps
    door.metrics.watch_steps(door.steps.rows)
    if express is None:
        return
    route, _ = door.routes.find(_TARGET.encode())

    def unfold(passage: Passage) -> tuple[Exchange, Ticket]:
        connection = passage.connection
        assert isinstance(connection, Connection)
        exchange = Exchange(connection, b"POST", {}, keep_alive=True, old_client=False)
        exchange.route, exchange.path = route, route.path
        exchange.key_id, exchange.request_id = passage.key_id, passage.request_id
        exchange.received_s = passage.received_s
        query = _query_of(passage)
        answer = Answer(exchange, query)
        ticket = answer.take_over(service, query, passage)
        connection.replace(passage, exchange)
        return exchange, ticket

    def unfold_or_end(passage: Passage) -> tuple[Any, Any]:
        try:
            return unfold(passage)
        except Exception as error:  # a bug of ours ends this request alone, and leaves nothing of it behind
            door.bug(error)
            passage.end()
            connection = passage.connection
            assert isinstance(connection, Connection)
            connection.replace(passage, _OVER)
            connection.abort()
            return _OVER, _OVER

    express.open(
        door,
        _TARGET,
        unfold_or_end,
        next_number,
        process_id,
        Heads(door, express.names, process_id, express.decision_prefix, describe),
        door.keys.find if door.keys else None,
    )
    door.express = express


def _query_of(passage: Passage) -> Query:
    """Without its turns once its answer has begun, as then its body is gone; or where the body is one that the ordinary
    way refuses: its end can still be told."""
    if not passage.started:
        try:
            query = decode("chat", passage.body, passage.request_id, passage.key_id)
            return query if not passage.session_id else replace(query, session_id=passage.session_id)
        except RouterError:
            pass
    return query_of(passage)
