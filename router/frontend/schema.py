"""`GET /openapi.json` and `GET /docs`: the routes of the public port, made once from their table. Nothing foreign is
loaded: the page is one file of text, without scripts, fonts or pictures.
"""

import html
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from router.frontend.exchange import Exchange
from router.frontend.routes import Route
from router.version import __version__

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_MODEL: Final[Schema] = {"type": "string", "description": "`auto`, or a name that `/v1/models` lists"}
_ONE_MEMBER: Final[Schema] = {
    "model": {"type": "string", "description": "one that can; without it, the only one that can"}
}
_COMMON: Final[Schema] = {"model": _MODEL, "stream": {"type": "boolean"}}
_LIST: Final[Schema] = {"type": "array", "items": {"type": "object"}}
#: Of the body of a route: what must stand there, and of what kind the fields are that routing reads.
_BODIES: Final[dict[str, tuple[tuple[str, ...], Schema]]] = {
    "/v1/chat/completions": (
        ("messages",),
        _COMMON | {"messages": _LIST, "max_tokens": {"type": "integer"}, "n": {"type": "integer"}, "tools": _LIST},
    ),
    "/v1/completions": (("prompt",), _COMMON | {"prompt": {}, "max_tokens": {"type": "integer"}}),
    "/v1/batches": (
        ("input_file_id", "endpoint", "completion_window"),
        {"input_file_id": _TEXT, "endpoint": _TEXT, "completion_window": _TEXT, "metadata": {"type": "object"}},
    ),
    "/v1/responses": (("input",), _COMMON | {"input": {}, "max_output_tokens": {"type": "integer"}}),
    "/v1/messages": (("messages", "max_tokens"), _COMMON | {"messages": _LIST, "max_tokens": {"type": "integer"}}),
    "/v1/messages/count_tokens": (("messages",), {"model": _MODEL, "messages": _LIST}),
    "/tokenize": ((), {"model": _MODEL, "prompt": _TEXT, "messages": _LIST}),
    "/detokenize": (("tokens",), {"model": _MODEL, "tokens": {"type": "array", "items": {"type": "integer"}}}),
    "/v1/embeddings": (("input",), _ONE_MEMBER | {"input": {}, "encoding_format": {"enum": ["float", "base64"]}}),
    "/classify": (("input",), _ONE_MEMBER | {"input": {}}),
    **dict.fromkeys(("/score", "/v1/score"), ((), _ONE_MEMBER | {"queries": {}, "documents": {}})),
    **dict.fromkeys(
        ("/rerank", "/v1/rerank", "/v2/rerank"),
        (("query", "documents"), _ONE_MEMBER | {"query": {}, "documents": {}, "top_n": {"type": "integer"}}),
    ),
    "/v1/chat/completions/batch": (("messages",), {"model": _MODEL, "messages": {"type": "array", "items": _LIST}}),
}
#: What the query of a route may hold, where that is not the model.
_QUERIES: Final[dict[str, tuple[str, ...]]] = {
    "/v1/files": ("limit", "after", "order", "purpose"),
    "/v1/batches": ("limit", "after"),
}
#: The form by which a file is sent.
_FILE: Final[Schema] = {
    "type": "object",
    "required": ["purpose", "file"],
    "properties": {"purpose": {"const": "batch"}, "file": {"type": "string", "format": "binary"}},
}
_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        }
    },
}
_ANTHROPICS_ERROR: Final[Schema] = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {"type": "object", "required": ["type", "message"], "properties": {"type": _TEXT, "message": _TEXT}},
    },
}
_HTML = "text/html; charset=utf-8"
#: Whatever a route's text may be, a browser runs and loads nothing.
_NOTHING_FOREIGN = "content-security-policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
_STYLE = (
    "body{font:15px/1.5 sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "td,th{text-align:left;padding:.25rem .75rem;border-bottom:1px solid #ccc;vertical-align:top}"
)


def documents(routes: Sequence[Route], *, guarded: bool, root: str) -> tuple[Route, ...]:
    """The two routes that tell of `routes` and of themselves. `guarded`: an API key is asked for."""

    def schema(exchange: Exchange) -> None:
        exchange.respond(200, encoded)

    def page(exchange: Exchange) -> None:
        exchange.respond(200, text, _HTML, headers=_NOTHING_FOREIGN)

    own = (
        Route("/openapi.json", {"GET": schema}, open=True, about="this description, OpenAPI 3.1"),
        Route("/docs", {"GET": page}, open=True, about="the same for people"),
    )
    every = (*routes, *own)
    encoded = msgspec.json.encode(openapi(every, guarded=guarded, root=root))
    text = _page(every, guarded=guarded).encode()
    return own


def openapi(routes: Sequence[Route], *, guarded: bool, root: str) -> Schema:
    """An OpenAPI 3.1 document. Fields of a body that it does not name pass to the engine, which checks them."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "Headgate", "version": __version__},
        "servers": [{"url": root or "/"}],
        "paths": {route.name: _path(route, guarded) for route in routes},
        "components": {
            "schemas": {"Error": _ERROR, "AnthropicError": _ANTHROPICS_ERROR},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def methods(route: Route) -> list[str]:
    """Those that do something of their own."""
    return sorted({method.decode() for method in route.handlers} - {"HEAD", "OPTIONS"})


def _path(route: Route, guarded: bool) -> Schema:
    found: Schema = {method.lower(): _operation(route, method, guarded) for method in methods(route)}
    if route.prefix:
        found["parameters"] = [{"name": "id", "in": "path", "required": True, "schema": _TEXT}]
    elif route.queried:
        names = _QUERIES.get(route.name, ("model",))
        found["parameters"] = [{"name": name, "in": "query", "schema": _TEXT} for name in names]
    return found


def _operation(route: Route, method: str, guarded: bool) -> Schema:
    name = "AnthropicError" if route.dialect == "anthropic" else "Error"
    error = {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
    operation: Schema = {
        "summary": route.about,
        "operationId": f"{method.lower()} {route.name}",
        "responses": {"200": {"description": "done"}, "default": {"description": "an error", "content": error}},
    }
    if route.reads_json and method == "POST":
        required, properties = _BODIES.get(route.name, ((), {}))
        body: Schema = {"type": "object", "properties": properties, "additionalProperties": True}
        if required:
            body["required"] = list(required)
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if route.takes is not None and method == "POST":
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": _FILE}}}
    if guarded and not route.open:
        operation["security"] = [{"key": []}]
    return operation


def _page(routes: Sequence[Route], *, guarded: bool) -> str:
    rows = "".join(
        f"<tr><td>{', '.join(methods(route))}<td><code>{html.escape(route.name)}</code><td>{html.escape(route.about)}"
        f"<td>{'yes' if guarded and not route.open else 'no'}\n"
        for route in routes
    )
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Headgate {__version__}</title>'
        f"<style>{_STYLE}</style><h1>Headgate {__version__}</h1>"
        '<p>The routes of this server; <a href="openapi.json">openapi.json</a> tells programs of them.</p>'
        f"<table><tr><th>method<th>path<th>does<th>key asked\n{rows}</table></html>\n"
    )
