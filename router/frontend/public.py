"""The public routes: inference in four dialects, feedback, models, tokenizer, health, metrics, version."""

from collections.abc import Callable
from time import perf_counter
from urllib.parse import unquote

import msgspec

from router.dialects.decode import read
from router.errors import BadRequest, DeadlineExceeded, ModelNotFound
from router.frontend.answer import Answer
from router.frontend.exchange import Exchange, Handler
from router.frontend.failure import Dialect
from router.frontend.feedback import feedback_route
from router.frontend.reading import Reading
from router.frontend.routes import Route, Routes
from router.frontend.scrape import show_metrics
from router.gate.permit import Permit
from router.observe.metrics import Metrics
from router.pipeline.service import ModelCard, Service
from router.pipeline.threads import LARGE_BODY_BYTES, Threads
from router.types import API_PATHS, Kind, Query
from router.version import __version__

_encode = msgspec.json.Encoder().encode
_MODELS = "/v1/models"
_DIALECTS: dict[Kind, Dialect] = {"responses": "responses", "messages": "anthropic", "count_tokens": "anthropic"}


class Public:
    """Handlers over one service. `draining` tells whether the process is about to end."""

    __slots__ = ("_draining", "_metrics", "_service", "_threads")

    def __init__(self, service: Service, metrics: Metrics, draining: Callable[[], bool]) -> None:
        self._service = service
        self._metrics = metrics
        self._draining = draining
        # One: what makes objects of a body holds the interpreter's lock, and more of them would keep it longer from us.
        self._threads = Threads(1, "headgate-reading")

    @property
    def reading_unfinished(self) -> int:
        """Bodies that the thread still reads, after the end of their requests too."""
        return self._threads.unfinished

    def close(self) -> None:
        """End the thread that reads large bodies. Idempotent."""
        self._threads.stop()

    def routes(self) -> Routes:
        return Routes((
            *(self._inference(kind, path) for kind, path in API_PATHS.items()),
            feedback_route(self._service, self._metrics),
            Route(_MODELS, {"GET": self._list_models}),
            Route(_MODELS + "/", {"GET": self._show_model}, prefix=True),
            *probes(self._service, self._metrics, self._draining),
            Route("/version", {"GET": _version}, open=True),
        ))  # fmt: skip

    def _inference(self, kind: Kind, path: str) -> Route:
        return Route(path, {"POST": self._infer(kind)}, dialect=_DIALECTS.get(kind, "openai"), reads_json=True)

    def _infer(self, kind: Kind) -> Handler:
        service, threads = self._service, self._threads

        def handle(exchange: Exchange) -> None:
            exchange.identify()
            permit = exchange.connection.listener.gate.take(exchange.key_id, exchange.body)
            try:
                if len(exchange.body) > LARGE_BODY_BYTES:
                    Reading(exchange, kind, permit, submit).begin(threads, _known_time_left(exchange))
                    return
                request_id, received_s = exchange.request_id, exchange.received_s
                submit(exchange, *read(kind, exchange.body, request_id, exchange.key_id, received_s), permit)
            except BaseException:
                permit.settle()
                raise

        def submit(exchange: Exchange, query: Query, body: bytes, permit: Permit) -> None:
            exchange.body = body
            if exchange.explained:
                query = _explained(query, exchange)
            Answer(exchange, query).submit(service, query, permit)

        return handle

    def _list_models(self, exchange: Exchange) -> None:
        cards = [_card(card) for card in self._service.models()]
        exchange.respond(200, _encode({"object": "list", "data": cards}))

    def _show_model(self, exchange: Exchange) -> None:
        asked = unquote(exchange.path[len(_MODELS) + 1 :].decode("latin-1"))
        for card in self._service.models():
            if card.id == asked:
                exchange.respond(200, _encode(_card(card)))
                return
        raise ModelNotFound(f"no model {asked[:200]!r}", param="model")


def probes(service: Service, metrics: Metrics, draining: Callable[[], bool]) -> tuple[Route, ...]:
    """`/health`: this process serves. `/ready`: some member can take a request
    (`degraded`: and another cannot). `/metrics`: for Prometheus."""

    def health(exchange: Exchange) -> None:
        exchange.respond(200, b'{"status":"ok"}')

    def ready(exchange: Exchange) -> None:
        members = service.members()
        leaving = draining()
        able = not leaving and any(member.state.ready for member in members)
        degraded = any(member.phase != "ready" for member in members)
        status = "draining" if leaving else "not ready" if not able else "degraded" if degraded else "ready"
        said: dict[str, object] = {"status": status, "members": {member.name: member.phase for member in members}}
        if starting := {member.name: member.start for member in members if member.start is not None}:
            said["starting"] = starting
        body = _encode(said)
        exchange.respond(200 if able else 503, body, headers="" if able else "retry-after: 1\r\n")

    return (
        Route("/health", {"GET": health}, open=True),
        Route("/ready", {"GET": ready}, open=True),
        Route("/metrics", {"GET": lambda exchange: show_metrics(exchange, metrics)}, open=True),
    )


def _explained(query: Query, exchange: Exchange) -> Query:
    """`query` with what the request's headers say; a deadline runs from the request's first byte. Raises `BadRequest`,
    `DeadlineExceeded`."""
    left = _time_left(exchange)
    if left is not None and left[0] <= 0:
        raise left[1]
    return msgspec.structs.replace(
        query,
        session_id=exchange.session_id,
        slo_ttft_s=exchange.seconds(b"x-headgate-slo-ttft"),
        deadline_s=left and left[0],
    )


def _time_left(exchange: Exchange) -> tuple[float, DeadlineExceeded] | None:
    """Seconds to the client's deadline, and what to answer then. Raises `BadRequest`."""
    allowed_s = exchange.seconds(b"x-headgate-deadline")
    if allowed_s is None:
        return None
    why = f"the request was not complete, or its turn not come, within {allowed_s:g} s"
    return allowed_s - (perf_counter() - exchange.begun_s), DeadlineExceeded(why)


def _known_time_left(exchange: Exchange) -> tuple[float, DeadlineExceeded] | None:
    """As above; None where the header is refused, which is answered once the body has been read."""
    try:
        return _time_left(exchange) if exchange.explained else None
    except BadRequest:
        return None


def _version(exchange: Exchange) -> None:
    exchange.respond(200, _encode({"version": __version__}))


def _card(card: ModelCard) -> dict[str, object]:
    """As vLLM's: `vllm bench serve` reads `root`."""
    permission = {
        "id": f"modelperm-{card.id}",
        "object": "model_permission",
        "created": card.created,
        "allow_create_engine": False,
        "allow_sampling": True,
        "allow_logprobs": True,
        "allow_search_indices": False,
        "allow_view": True,
        "allow_fine_tuning": False,
        "organization": "*",
        "group": None,
        "is_blocking": False,
    }
    return {
        "id": card.id,
        "object": "model",
        "created": card.created,
        "owned_by": "headgate",
        "root": card.root or card.id,
        "parent": None,
        "max_model_len": card.context_tokens or None,
        "permission": [permission],
    }
