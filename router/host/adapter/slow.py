"""The slow way: a request goes through vLLM's own API application in this process, over ASGI, without HTTP or sockets.

The answer is exactly that of `vllm serve`, at the cost of its pydantic models. Knows ASGI and vLLM's error bodies.
"""

import asyncio
import inspect
import os
import re
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import msgspec

from router.dialects.forms import read_travelling
from router.errors import BadRequest
from router.host.adapter.app_call import AppCall, Heard
from router.host.adapter.refusals import cause, failure
from router.host.adapter.stored import StoredAnswers
from router.host.base import NOT_CONTINUED, AnswerSink, ErrorAnswer, engine_failed
from router.host.limits import Bounds, TooLong
from router.host.segments import goes_on
from router.ipc.messages import Submit
from router.ipc.response_ids import holder, new_id
from router.ipc.spec import ADAPTER_REFUSED, ENGINE_ROUTES, LOAD_ADAPTER, EngineCall
from router.types import API_PATHS, GENERATING, STORED_PATH, Kind, body_of

App: TypeAlias = Callable[[Any, Any, Any], Awaitable[None]]

#: Kinds whose body is an `EngineCall`.
_OUR_BODIES = ("admin", "stored")
_STORED = re.compile(re.escape(STORED_PATH) + r"[^/]+(/cancel)?")
_engine_call = msgspec.json.Decoder(EngineCall)
_object = msgspec.json.Decoder(dict[str, Any])


class SlowWay:
    """Calls the application; one task per request."""

    def __init__(
        self,
        app: App,
        served_name: str,
        loop: asyncio.AbstractEventLoop,
        *,
        priorities: bool = False,
        dead: Callable[[], bool] = lambda: False,
        bounds: Bounds | None = None,
    ) -> None:
        """`dead` tells whether the engine is: then no answer is the request's own fault. What is out of `bounds` is
        refused before vLLM looks at it, which would take it long."""
        self._app = app
        self._name = served_name
        self._loop = loop
        self._priorities = priorities
        self._dead = dead
        self.bounds = bounds
        self._stored = StoredAnswers.of(app)
        self._holder = holder(served_name, os.getpid())
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, submit: Submit, answer: AnswerSink) -> Callable[[], None]:
        if submit.warm or goes_on(submit):
            self._loop.call_soon(answer.fail, NOT_CONTINUED)
            return lambda: None
        call = AppCall(answer, submit.kind, self._dead)
        try:
            body = b"" if submit.kind in _OUR_BODIES else self._body(submit, call)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, BadRequest):
            body = submit.body  # vLLM says what is wrong with it
        except TooLong as error:
            said = msgspec.json.encode({"message": str(error)})
            self._loop.call_soon(answer.fail, failure(400, said, submit.kind))
            return call.disconnect
        task = self._loop.create_task(self._run(call, submit, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call.disconnect

    async def ask(self, kind: Kind, body: dict[str, Any]) -> tuple[int, bytes]:
        """Status and body of one call that is nobody's request."""
        return await self._ask(Submit(id=0, kind=kind, body=b""), msgspec.json.encode(body | {"model": self._name}))

    async def operate(self, asked: EngineCall) -> tuple[int, bytes]:
        """Status and body of a call of ours that acts on the engine."""
        return await self._ask(Submit(id=0, kind="admin", body=msgspec.json.encode(asked)), b"")

    async def _ask(self, submit: Submit, body: bytes) -> tuple[int, bytes]:
        heard = Heard()
        call = AppCall(heard, submit.kind, self._dead)
        await self._run(call, submit, body)
        return call.status, b"".join(heard.chunks)

    def _body(self, submit: Submit, call: AppCall) -> bytes:
        if body_of(submit.kind) == "form":
            return read_travelling(submit.body).naming(submit.adapter or self._name).travelling
        body = _object.decode(submit.body)
        if self.bounds is not None and submit.kind in GENERATING:
            self.bounds.body(body)
        body["model"] = submit.adapter or self._name
        if submit.kind == "responses":
            call.id = str(body.setdefault("request_id", new_id(self._holder)))
        if submit.priority and self._priorities:
            body["priority"] = submit.priority
        if submit.continue_text:
            _continue(body, submit)
        return msgspec.json.encode(body)

    async def _run(self, call: AppCall, submit: Submit, body: bytes) -> None:
        try:
            await self._called(call, submit, body)
        except Exception as error:  # of ours, or of vLLM's own handlers of errors: the answer has to end all the same
            call.failed(engine_failed(f"{type(error).__name__}: {error}"))
            self._loop.call_exception_handler({"message": "an answer was not understood", "exception": error})

    async def _called(self, call: AppCall, submit: Submit, body: bytes) -> None:
        if submit.kind in _OUR_BODIES:
            asked = _engine_call.decode(submit.body)
            body = asked.body.encode()
            scope = _scope(asked.path, submit, len(body), _method_of(submit.kind, asked.path), asked.query)
        elif body_of(submit.kind) == "none":
            body = b""
            scope = _scope(API_PATHS[submit.kind], submit, 0, "GET")
        elif body_of(submit.kind) == "form":
            type_, _, body = body.partition(b"\n")
            scope = _scope(API_PATHS[submit.kind], submit, len(body), type_=type_)
        else:
            scope = _scope(API_PATHS[submit.kind], submit, len(body))
        call.body = body
        try:
            await self._app(scope, call.receive, call.send)
        except Exception as error:
            if not call.disconnected:
                call.failed(await self._explained(error, scope, submit.kind))
            return
        if submit.kind == "admin" and scope["path"] == LOAD_ADAPTER and call.status == 500:
            call.code = ADAPTER_REFUSED
        stored = self._stored
        if stored is not None and call.id and call.status == 200 and stored.in_background(call.id):
            await self._follow(stored, call, scope)
        else:
            call.finished(scope["state"])

    async def _follow(self, stored: StoredAnswers, call: AppCall, scope: dict[str, Any]) -> None:
        """An answer that is made in the background ends with its making, or with ours: it is given up by an abort."""
        if not call.streams:
            call.queued()
            await _either(stored.ended(call.id), call.left())
        if call.disconnected:
            await stored.cancel(call.id)
        elif call.streams:
            call.finished(scope["state"])
        else:
            call.made(*stored.outcome(call.id))

    async def _explained(self, error: Exception, scope: dict[str, Any], kind: Kind) -> ErrorAnswer:
        """What an exception says that came after the response had begun. vLLM's own handlers know what is whose fault;
        they could not answer any more. What they do not know is the engine's."""
        raised = cause(error)
        if not self._dead() and (told := await self._handled(raised, scope)) is not None:
            return failure(*told, kind)
        return engine_failed(f"{type(raised).__name__}: {raised}")

    async def _handled(self, error: BaseException, scope: dict[str, Any]) -> tuple[int, bytes] | None:
        handlers = getattr(self._app, "exception_handlers", {})
        handler = next((handlers[kind] for kind in type(error).__mro__ if kind in handlers), None)
        if handler is None:
            return None
        from starlette.requests import Request

        response = handler(Request(scope), error)
        if inspect.isawaitable(response):
            response = await response
        return response.status_code, bytes(response.body)


async def _either(*those: Awaitable[None]) -> None:
    """Return once one of them has."""
    waits = [asyncio.ensure_future(each) for each in those]
    try:
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()


def _method_of(kind: Kind, path: str) -> str:
    """Of vLLM's route; no others can be named. Raises `ValueError`."""
    method = ENGINE_ROUTES.get(path)
    if kind == "stored":
        asked = _STORED.fullmatch(path)
        method = None if asked is None else "POST" if asked[1] else "GET"
    if method is None:
        raise ValueError(f"{path[:200]!r} is no route for requests of kind {kind}")
    return method


def _continue(body: dict[str, Any], submit: Submit) -> None:
    """Make the model go on from what was said already."""
    if submit.kind == "chat" and isinstance(body.get("messages"), list):
        body["messages"] = [*body["messages"], {"role": "assistant", "content": submit.continue_text}]
        body["continue_final_message"], body["add_generation_prompt"] = True, False
    elif submit.kind == "completions" and isinstance(body.get("prompt"), str):
        body["prompt"] += submit.continue_text


def _scope(
    path: str, submit: Submit, length: int, method: str = "POST", query: str = "", type_: bytes = b"application/json"
) -> dict[str, Any]:
    headers = [(b"content-type", type_), (b"content-length", b"%d" % length)]
    if submit.request_id:
        headers.append((b"x-request-id", submit.request_id.encode("latin-1", "replace")))
    if submit.traceparent:
        headers.append((b"traceparent", submit.traceparent.encode("latin-1", "replace")))
    return {
        "type": "http",
        # 2.3: the application then listens for our disconnect also while it streams.
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 0),
        "server": ("127.0.0.1", 0),
        "state": {},
    }
