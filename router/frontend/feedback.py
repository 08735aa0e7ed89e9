"""`POST /v1/feedback`: what a client says of an answer that it was given. 200: it is in the journal's file."""

import msgspec

from router.dialects.feedback import read_feedback
from router.errors import FeedbackOff, RouterError
from router.frontend.exchange import Exchange
from router.frontend.later import Waiting
from router.frontend.routes import Route
from router.observe.feedback import Given
from router.observe.metrics import Metrics
from router.pipeline.service import Service

_encode = msgspec.json.Encoder().encode


class Noted(msgspec.Struct, frozen=True, omit_defaults=True, tag_field="object", tag="feedback"):
    """The answer: how it was understood."""

    id: str
    model: str  #: that gave the answer
    score: float | None = None
    better: str = ""
    worse: str = ""
    tie: bool = False
    replaced: bool = False  #: something had been said of the answer before


def feedback_route(service: Service, metrics: Metrics) -> Route:
    def give(exchange: Exchange) -> None:
        try:
            _give(exchange, service, metrics)
        except RouterError as error:
            metrics.feedback(error.code or "refused")
            raise

    return Route("/v1/feedback", {"POST": give}, reads_json=True, about="what a client says of an answer")


def _give(exchange: Exchange, service: Service, metrics: Metrics) -> None:
    feedback = service.feedback
    if feedback is None:
        raise FeedbackOff(
            "this server takes no feedback: no `journal.path` in its config, or no `journal.feedback_ids`"
        )
    said, exchange.body = read_feedback(exchange.body), b""
    given = feedback.read(said, exchange.key_id)
    feedback.write(given, _Answer(exchange, given, metrics).told)


class _Answer(Waiting):
    """To a client that waits for the disk. The line is written even if it leaves, or is cut by a drain."""

    def __init__(self, exchange: Exchange, given: Given, metrics: Metrics) -> None:
        super().__init__(exchange)
        self._given = given
        self._metrics = metrics

    def told(self, error: RouterError | None) -> None:
        self._metrics.feedback("written" if error is None else error.code or "failed")
        exchange = self._taken()
        if exchange is None:
            return
        if error is not None:
            exchange.refuse(error)
            return
        line = self._given.line
        noted = Noted(
            id=line.id, model=self._given.model, score=line.score, better=line.better, worse=line.worse, tie=line.tie,
            replaced=self._given.again,
        )  # fmt: skip
        exchange.respond(200, _encode(noted), headers=exchange.request_id_header())
