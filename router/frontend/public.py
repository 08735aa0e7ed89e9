"""The public routes: inference in four dialects, feedback, models, tokenizer, and the probes."""

from collections.abc import Callable
from time import perf_counter
from urllib.parse import unquote

import msgspec

from router.config import Server
from router.dialects.decode import read
from router.dialects.invocations import kind_of
from router.errors import BadRequest, DeadlineExceeded, ModelNotFound
from router.frontend.answer import Answer
from router.frontend.exchange import Exchange, Handler
from router.frontend.failure import Dialect
from router.frontend.feedback import feedback_route
from router.frontend.probes import probes, sagemaker_ping
from router.frontend.reading import Reading
from router.frontend.routes import Route, Routes
from router.frontend.schema import documents
from router.gate.permit import Permit
from router.observe.metrics import Metrics
from router.pipeline.service import ModelCard, Service
from router.pipeline.threads import LARGE_BODY_BYTES, Threads
from router.types import API_PATHS, Kind, Query

_encode = msgspec.json.Encoder().encode
_MODELS = "/v1/models"
_DIALECTS: dict[Kind, Dialect] = {"responses": "responses", "messages": "anthropic", "count_tokens": "anthropic"}

_ABOUT: dict[Kind, str] = {
    "chat": "OpenAI's chat completion",
    "completions": "OpenAI's text completion",
    "responses": "OpenAI's Responses",
    "messages": "Anthropic's Messages",
    "count_tokens": "the tokens of such a conversation",
    "tokenize": "a text's or a conversation's token ids",
    "detokenize": "the text of token ids",
}


class Public:
    """Handlers over one service. `draining` tells whether the process is about to end."""

    __slots__ = ("_docs", "_draining", "_guarded", "_metrics", "_root", "_service", "_threads")

    def __init__(self, service: Service, metrics: Metrics, draining: Callable[[], bool], config: Server) -> None:
        self._service = service
        self._metrics = metrics
        self._draining = draining
        self._root = config.root_path
        self._docs = config.docs
        self._guarded = bool(config.api_keys)
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
        routes = (
            *(self._inference(kind, path) for kind, path in API_PATHS.items()),
            Route(
                "/invocations", {"POST": self._infer(None)}, reads_json=True, about="SageMaker's: chat or completion"
            ),
            feedback_route(self._service, self._metrics),
            Route(_MODELS, {"GET": self._list_models}, about="auto, then the members"),
            Route(_MODELS + "/", {"GET": self._show_model}, prefix=True, about="one of them"),
            *probes(self._service, self._metrics, self._draining),
            sagemaker_ping(self._service),
        )
        if self._docs:
            routes += documents(routes, guarded=self._guarded, root=self._root)
        return Routes(routes, self._root)

    def _inference(self, kind: Kind, path: str) -> Route:
        dialect = _DIALECTS.get(kind, "openai")
        return Route(path, {"POST": self._infer(kind)}, dialect=dialect, reads_json=True, about=_ABOUT[kind])

    def _infer(self, kind: Kind | None) -> Handler:
        """`kind`: None where the body tells it."""
        service, threads = self._service, self._threads

        def handle(exchange: Exchange) -> None:
            exchange.identify()
            permit = exchange.connection.listener.gate.take(exchange.key_id, exchange.body)
            try:
                if len(exchange.body) > LARGE_BODY_BYTES:
                    Reading(exchange, kind, permit, submit).begin(threads, _known_time_left(exchange))
                    return
                request_id, received_s = exchange.request_id, exchange.received_s
                submit(
                    exchange,
                    *read(kind or kind_of(exchange.body), exchange.body, request_id, exchange.key_id, received_s),
                    permit,
                )
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
