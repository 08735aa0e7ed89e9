"""`/members/NAME/sleep` and its kin on the admin port: vLLM's routes that act on an engine, by member."""

import asyncio
from urllib.parse import unquote

from router.errors import BadRequest, NotFound
from router.frontend import wire
from router.frontend.exchange import Exchange
from router.frontend.later import Later
from router.frontend.member_changes import VERBS, MemberChanges
from router.frontend.routes import Route, shown
from router.ipc.spec import ENGINE_ROUTES, LOAD_ADAPTER, UNLOAD_ADAPTER, EngineCall
from router.pipeline.service import Service

_START = "/members/"
_TEXT = "text/plain; charset=utf-8"


def operations(service: Service, changes: MemberChanges) -> Route:
    def ask(exchange: Exchange) -> None:
        if changes.take(exchange, _START):
            return
        name, call = _read(exchange)
        Later(exchange, asyncio.ensure_future(service.operate(name, call)), _type_of)

    about = "one of vLLM's routes, or a change of the pool, by member"
    return Route(_START, {"GET": ask, "POST": ask, "DELETE": ask}, open=True, prefix=True, about=about)


def adapter_routes(service: Service) -> tuple[Route, ...]:
    """`/v1/load_lora_adapter` and `/v1/unload_lora_adapter` without a member's name, of a pool of one engine."""

    def route(path: str, about: str) -> Route:
        def ask(exchange: Exchange) -> None:
            call = EngineCall(path=path, body=_text(exchange.body))
            Later(exchange, asyncio.ensure_future(service.operate(_only(service, path), call)), _type_of)

        return Route(path, {"POST": ask}, reads_json=True, about=about)

    return route(LOAD_ADAPTER, "a LoRA adapter becomes a model"), route(UNLOAD_ADAPTER, "and is one no more")


def _only(service: Service, path: str) -> str:
    """The name of the one model with an engine. Raises `BadRequest` where there are more."""
    engines = list({each.model or each.name: None for each in service.members() if each.kind == "engine"})
    if len(engines) != 1:
        there = ", ".join(engines) or "none"
        raise BadRequest(f"expected a pool of one engine, there are {there}: ask the admin port, {_START}NAME{path}")
    return engines[0]


def _read(exchange: Exchange) -> tuple[str, EngineCall]:
    """The member's name, which may hold slashes, and the call. Raises `NotFound`, `BadRequest`."""
    rest = exchange.path[len(_START) :].decode("latin-1")
    path = next((path for path in ENGINE_ROUTES if rest.endswith(path)), "")
    name = rest.removesuffix(path)
    if not path or not name:
        there = ", ".join(f"{_START}NAME{path}" for path in (*ENGINE_ROUTES, *(f"/{verb}" for verb in VERBS)))
        raise NotFound(f"no route {shown(exchange.path)}; there are {there}", code="unknown_route")
    method = ENGINE_ROUTES[path]
    if exchange.method.decode() != method:
        raise BadRequest(f"{_START}NAME{path} is asked by {method}")
    call = EngineCall(path=path, query=exchange.query.decode("latin-1"), body=_text(exchange.body))
    return unquote(name, errors="replace"), call


def _text(body: bytes) -> str:
    try:
        return body.decode()
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not UTF-8: {error.reason}") from error


def _type_of(answer: bytes) -> str:
    """vLLM answers in JSON, and in plain words where it has loaded an adapter."""
    return wire.JSON if answer[:1] in (b"", b"{", b"[") else _TEXT
