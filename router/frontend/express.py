"""The common request's way through a door: opened where the pipeline has one, left again for all that is not common.

A plain chat request is read, decided, handed over and answered natively (`router.native.express`), to the byte as
`exchange` and `answer` would. As soon as anything else happens to it - an error, a client that leaves, a drain - it
becomes the ordinary exchange that it stands for, and goes on as that.
"""

from router.dialects.decode import decode
from router.frontend import wire
from router.frontend.answer import Answer, describe
from router.frontend.connection import Connection
from router.frontend.door import Door
from router.frontend.exchange import Exchange, next_number, process_id
from router.native.express import Passage
from router.pipeline.base import Service, Ticket
from router.types import API_PATHS

_TARGET = API_PATHS["chat"]


def open_express(door: Door, service: Service) -> None:
    """Let plain chat requests of `door` take the service's common way, if it has one."""
    express = service.express
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
        query = decode("chat", passage.body, passage.request_id, passage.key_id)
        answer = Answer(exchange, query)
        ticket = answer.resume(service, query, passage)
        connection.replace(passage, exchange)
        return exchange, ticket

    express.open(
        door,
        _TARGET,
        unfold,
        next_number,
        process_id,
        wire.COMMON_HEADS,
        describe,
        door.keys.identify if door.keys else None,
    )
    door.express = express
