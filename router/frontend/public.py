"""The public routes: inference in four dialects, feedback, models, tokenizer, and the probes."""

from collections.abc import Callable
from functools import partial
from time import perf_counter
from urllib.parse import parse_qs, unquote

import msgspec

from router.config import Server
from router.dialects.decode import read
from router.dialects.forms import read_form
from router.dialects.invocations import kind_of
from router.errors import BadRequest, DeadlineExceeded, ModelNotFound, NotSupported
from router.frontend.answer import Answer
from router.frontend.background import Background
from router.frontend.batches import BatchRoutes
from router.frontend.exchange import Exchange, Handler
from router.frontend.failure import Dialect
from router.frontend.feedback import feedback_route
from router.frontend.files import Files
from router.frontend.operations import adapter_routes
from router.frontend.probes import probes, sagemaker_ping
from router.frontend.reading import Reading
from router.frontend.routes import Route, Routes, refuse_page
from router.frontend.schema import documents
from router.frontend.stored import stored_answers
from router.gate.keys import Keys
from router.gate.permit import Permit
from router.observe.metrics import Metrics
from router.pipeline.service import ModelCard, Service
from router.pipeline.threads import LARGE_BODY_BYTES, Threads
from router.types import API_PATHS, MEMBER_ROUTES, Kind, Query

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

    __slots__ = (
        "_adapters",
        "_choices",
        "_docs",
        "_draining",
        "_files",
        "_guarded",
        "_metrics",
        "_root",
        "_service",
        "_threads",
    )

    def __init__(self, service: Service, metrics: Metrics, draining: Callable[[], bool], config: Server) -> None:
        self._service = service
        self._metrics = metrics
        self._draining = draining
        self._root = config.root_path
        self._docs = config.docs
        self._adapters = config.adapter_routes
        keys = Keys(config.keys)
        self._guarded, self._choices = bool(keys), keys.choices
        # One: what makes objects of a body holds the interpreter's lock, and more of them would keep it longer from us.
        self._threads = Threads(1, "headgate-reading")
        self._files = Threads(2, "headgate-files")

    @property
    def reading_unfinished(self) -> int:
        """Bodies that the thread still reads, after the end of their requests too."""
        return self._threads.unfinished

    def close(self) -> None:
        """End the thread that reads large bodies. Idempotent."""
        self._threads.stop()
        self._files.stop()

    def routes(self) -> Routes:
        routes = (
            *(self._inference(kind) for kind in _ABOUT),
            *(route for kind in MEMBER_ROUTES for route in self._of_members(kind)),
            Route(
                "/invocations",
                {"POST": self._infer(None)},
                reads_json=True,
                about="SageMaker's: chat, completion, embeddings, classes, scores or ranks, by the body",
            ),
            stored_answers(self._service),
            feedback_route(self._service, self._metrics),
            Route(_MODELS, {"GET": self._list_models}, about="auto, then the members"),
            Route(_MODELS + "/", {"GET": self._show_model}, prefix=True, about="one of them"),
            *Files(self._service, self._files).routes(),
            *BatchRoutes(self._service).routes(),
            *probes(self._service, self._metrics, self._draining),
            sagemaker_ping(self._service),
            Route(
                "/v1/realtime", {"GET": _refuse_realtime}, about="not served: a WebSocket of the engine's own server"
            ),
        )
        if self._adapters:
            routes += adapter_routes(self._service)
        if self._docs:
            routes += documents(routes, guarded=self._guarded, root=self._root)
        return Routes(routes, self._root)

    def _inference(self, kind: Kind) -> Route:
        dialect = _DIALECTS.get(kind, "openai")
        infer = self._infer(kind)
        return Route(API_PATHS[kind], {"POST": infer}, dialect=dialect, reads_json=True, about=_ABOUT[kind])

    def _of_members(self, kind: Kind) -> list[Route]:
        """The routes of a kind that a member's own server answers: one for each of its paths."""
        said, infer = MEMBER_ROUTES[kind], self._infer(kind)
        if said.body == "none":
            return [Route(path, {"GET": _by_query(infer)}, queried=True, about=said.about) for path in said.paths]
        form = said.body == "form"
        post = _by_form(infer) if form else infer
        return [Route(path, {"POST": post}, reads_json=not form, about=said.about) for path in said.paths]

    def _infer(self, kind: Kind | None) -> Handler:
        """`kind`: None where the body tells it."""
        service, threads, choices = self._service, self._threads, self._choices

        def handle(exchange: Exchange) -> None:
            exchange.identify()
            permit = exchange.connection.listener.gate.take(exchange.key_id, exchange.body, exchange.priority)
            try:
                asked: Kind | Callable[[bytes], Kind] = kind or partial(kind_of, able=service.able())
                if len(exchange.body) > LARGE_BODY_BYTES:
                    Reading(exchange, asked, permit, submit).begin(threads, _known_time_left(exchange))
                    return
                request_id, received_s = exchange.request_id, exchange.received_s
                told = asked if isinstance(asked, str) else asked(exchange.body)
                submit(exchange, *read(told, exchange.body, request_id, exchange.key_id, received_s), permit)
            except BaseException:
                permit.settle()
                raise

        def submit(exchange: Exchange, query: Query, body: bytes, permit: Permit) -> None:
            exchange.body = body
            if exchange.explained:
                query = _explained(query, exchange)
            if exchange.debugged:
                query = msgspec.structs.replace(query, marked=True)
            if choice := exchange.choice or choices.get(exchange.key_id, ""):
                query = msgspec.structs.replace(query, choice=choice)
            if names := service.rule_headers:
                query = msgspec.structs.replace(query, headers=_sent(exchange, names))
            answer = Answer(exchange, query)
            (Background(answer) if query.background else answer).submit(service, query, permit)

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


def _refuse_realtime(exchange: Exchange) -> None:
    other = ", ".join(MEMBER_ROUTES[kind].paths[0] for kind in MEMBER_ROUTES if MEMBER_ROUTES[kind].body == "form")
    raise NotSupported(f"WebSockets are not served here: ask the engine's own server, or send whole audio to {other}")


def _by_query(infer: Handler) -> Handler:
    """Of a GET, whose query names the model: read as a body that does."""

    def handle(exchange: Exchange) -> None:
        asked = parse_qs(exchange.query.decode("latin-1"), errors="replace").get("model", [])
        if len(asked) > 1:
            raise BadRequest(f"`model` stands {len(asked)} times in the query; expected it once", param="model")
        exchange.body = _encode({"model": asked[0]} if asked else {})
        infer(exchange)

    return handle


def _by_form(infer: Handler) -> Handler:
    """Of a multipart body, which travels with its content type: in that stands what its parts are divided by."""

    def handle(exchange: Exchange) -> None:
        refuse_page(exchange)
        form = read_form(exchange.headers.get(b"content-type", b""), exchange.body)
        exchange.body = form.travelling
        infer(exchange)

    return handle


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
        priority=exchange.priority,
    )


def _sent(exchange: Exchange, names: frozenset[str]) -> dict[str, str]:
    """The headers of these names that it has."""
    sent = {name: exchange.headers.get(name.encode()) for name in names}
    return {name: value.decode("latin-1") for name, value in sent.items() if value is not None}


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
        "parent": card.parent or None,
        "max_model_len": card.context_tokens or None,
        "permission": [permission],
    }
