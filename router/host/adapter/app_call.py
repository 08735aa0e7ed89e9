"""One request to vLLM's API application and its response, as ASGI's two callables.

Knows ASGI and how vLLM's events and bodies tell of an error.
"""

import asyncio
import re
from collections.abc import Callable, MutableMapping
from typing import Any

from router.host.adapter.refusals import failure, status_of
from router.host.adapter.usage import usage_in, usage_of
from router.host.base import DIED, AnswerSink, ErrorAnswer, engine_failed
from router.host.base import failure as our_failure
from router.ipc.messages import Handoff
from router.types import Kind, Usage
from router.watched import Figures

_FINISH = re.compile(rb'"(?:finish_reason|stop_reason)":\s?"(\w+)"')
_EVENT_ERROR = re.compile(rb'^(?:event: error\r?\ndata: |data: (?=\{"(?:error"|type":\s?"error")))(.*)', re.DOTALL)
#: What `responses` says before the engine has looked at the request: it waits for what comes next.
_PREAMBLE = re.compile(rb"event: response\.(?:created|queued|in_progress)\r?\n")


class AppCall:
    """One request and its response, as ASGI's two callables."""

    def __init__(self, answer: AnswerSink, kind: Kind, dead: Callable[[], bool]) -> None:
        self._answer = answer
        self._dead = dead
        self._kind = kind
        self._gone = asyncio.Event()
        self._whole: list[bytes] = []
        self._streams = False
        self._preamble = b""
        self._error: ErrorAnswer | None = None
        self._finish_reason = "stop"
        self.status = 0
        self.code = ""  #: of an error, where it is known beforehand
        self.id = ""  #: of an answer of `responses`
        self.body: bytes | None = b""

    @property
    def disconnected(self) -> bool:
        return self._gone.is_set()

    @property
    def streams(self) -> bool:
        return self._streams

    def disconnect(self) -> None:
        self._gone.set()

    async def left(self) -> None:
        """Return once nobody wants the answer any more."""
        await self._gone.wait()

    async def receive(self) -> dict[str, Any]:
        if self.body is not None:
            body, self.body = self.body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self._streams = self.status < 400 and any(
                name.lower() == b"content-type" and value.startswith(b"text/event-stream")
                for name, value in message["headers"]
            )
            return
        data = bytes(message.get("body", b""))
        if not data:
            return
        if not self._streams:
            self._whole.append(data)
        elif self._error is None:
            self._event(data)

    def _event(self, data: bytes) -> None:
        if match := _EVENT_ERROR.match(data):
            event = match.group(1).strip()
            self._error = failure(status_of(event), event, self._kind)
            return
        if self._kind == "responses":
            if _PREAMBLE.match(data):
                self._preamble += data
                return
            data, self._preamble = self._preamble + data, b""
        if match := _FINISH.search(data):
            self._finish_reason = match.group(1).decode()
        self._answer.chunk(data)

    def failed(self, why: ErrorAnswer) -> None:
        self._answer.fail(why)

    def queued(self) -> None:
        """The application has told of an answer that is made from now on."""
        self._answer.chunk(b"".join(self._whole))
        self._answer.untimed()

    def made(self, status: str, usage: Usage) -> None:
        """Such an answer is over; `status` is the API's word for how."""
        if status in ("completed", "incomplete"):
            self._answer.done(usage, "stop" if status == "completed" else "length")
        elif status == "cancelled":
            self._answer.fail(our_failure(499, "the response was cancelled", "cancelled", code="response_cancelled"))
        else:
            self._answer.fail(engine_failed(DIED if self._dead() else "the response failed in the engine"))

    def finished(self, state: dict[str, Any]) -> None:
        """The application returned: say how it ended."""
        if self.disconnected:
            return
        body = b"".join(self._whole)
        if self._dead() and (self._error is not None or self.status >= 400):
            self._answer.fail(engine_failed(DIED))
        elif self._error is not None:
            self._answer.fail(self._error)
        elif self.status == 0:
            self._answer.fail(engine_failed("vLLM's application gave no answer"))
        elif self.status >= 400:
            self._answer.fail(failure(self.status, body, self._kind, self.code))
        else:
            usage = usage_of(state)
            if self._kind == "stored":  # what it was made by and how long that took was told when it was made
                usage = Usage()
            if self._preamble:
                self._answer.chunk(self._preamble)
            if not self._streams:
                usage = usage or usage_in(body)
                if match := _FINISH.search(body):
                    self._finish_reason = match.group(1).decode()
                self._answer.chunk(body)
            if self._kind == "stored" or not self._streams:
                self._answer.untimed()
            self._answer.done(usage or Usage(), self._finish_reason)


class Heard:
    """An answer kept for ourselves."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []

    def begun(self) -> None:
        pass

    def chunk(self, data: bytes) -> None:
        self.chunks.append(data)

    def untimed(self) -> None:
        pass

    def done(self, usage: Usage, finish_reason: str, figures: Figures | None = None, first_logits: bytes = b"") -> None:
        pass

    def handoff(self, handed: Handoff) -> None:
        pass

    def fail(self, failure: ErrorAnswer) -> None:
        self.chunks.append(failure.body)
