"""One paired request: what is sent to vLLM's server and to Headgate, and what the APIs' documents say of the answer.

Knows no server. The lists are in the files beside it, one a family of routes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

MODEL = "tiny"
SUM = [{"role": "user", "content": "What is 12 + 30?"}]
JSON_TYPE = {"content-type": "application/json"}
#: Nothing stands at this path of the answer.
ABSENT = object()


@dataclass(frozen=True)
class Case:
    """`holds` is what a document promises: by path into the answer, a value, a type, a predicate, or `ABSENT`."""

    name: str
    method: str
    path: str
    body: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=lambda: JSON_TYPE)
    holds: Mapping[str, Any] = field(default_factory=dict)
    #: A field that sends the same request through vLLM's own serving classes, where the fast way would take it.
    slowly: Mapping[str, Any] | None = None

    def on_vllms_way(self) -> "Case":
        assert self.body is not None
        assert self.slowly is not None
        body = json.loads(self.body) | self.slowly
        return Case(f"{self.name}, vLLM's way", self.method, self.path, encoded(body), self.headers, self.holds)


def encoded(body: Any) -> bytes | None:
    """Bytes and text are sent as they are; all else as JSON."""
    if body is None or isinstance(body, bytes):
        return body
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def post(
    name: str,
    path: str,
    body: Any,
    status: Any = 200,
    *,
    headers: Mapping[str, str] = JSON_TYPE,
    slowly: Mapping[str, Any] | None = None,
    **holds: Any,
) -> Case:
    """A path's dots are written `__` in `holds`: `choices__0__index=0`."""
    promised = {"status": status} | {path.replace("__", "."): value for path, value in holds.items()}
    return Case(f"{path} {name}", "POST", path, encoded(body), headers, promised, slowly)


def get(name: str, path: str, status: int = 200, *, method: str = "GET", **holds: Any) -> Case:
    promised = {"status": status} | {path.replace("__", "."): value for path, value in holds.items()}
    return Case(f"{path} {name}", method, path, None, {}, promised)


def either(*options: Any) -> Callable[[Any], bool]:
    return lambda value: value in options


def begins(text: str) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, str) and value.startswith(text)


def longer(than: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, list | str) and len(value) > than


def whole(value: Any) -> bool:
    """A count: true is none."""
    return type(value) is int and value >= 0


def is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


#: What every error of OpenAI's APIs has.
REFUSED: dict[str, Any] = {"error__message": is_text, "error__type": is_text}
