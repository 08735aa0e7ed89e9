"""One answer from the engine to a connection. It ends exactly once: finished, failed, past its deadline, or aborted."""

import asyncio
from collections.abc import Callable

import msgspec

from router.host.base import Engine, ErrorAnswer, engine_failed, failure
from router.host.outbox import Outbox
from router.ipc.messages import Done, Fail, Handoff, Submit
from router.types import Timings, Usage
from router.watched import Figures


class Generation:
    """The `Answer` of one `Submit`. `closed` is called once, at whatever end."""

    __slots__ = (
        "_closed",
        "_first_token_s",
        "_id",
        "_loop",
        "_open",
        "_outbox",
        "_received",
        "_stop",
        "_streaming",
        "_timer",
    )

    def __init__(self, id: int, outbox: Outbox, loop: asyncio.AbstractEventLoop, closed: Callable[[int], None]) -> None:
        self._id = id
        self._outbox = outbox
        self._loop = loop
        self._closed = closed
        self._received = loop.time()
        self._first_token_s = 0.0
        self._open = True
        self._streaming = False  #: open, and its first chunk has come
        self._stop: Callable[[], None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self, engine: Engine, submit: Submit) -> None:
        if submit.deadline_s > 0:
            self._timer = self._loop.call_later(submit.deadline_s, self._too_late, submit.deadline_s)
        self._stop = engine.start(submit, self)

    def abort(self) -> None:
        """Nobody waits for the answer: stop generating, say nothing."""
        if self._open:
            self._outbox.forget(self._id)
            self._halt()

    def refuse(self, failure: ErrorAnswer) -> None:
        """End the answer with our own error and stop generating."""
        if self._open:
            self._send_failure(failure)
            self._halt()

    # Answer

    def begun(self) -> None:
        if self._first_token_s == 0.0:
            self._first_token_s = self._loop.time() - self._received

    def chunk(self, data: bytes) -> None:
        if not self._streaming:
            if not self._open:
                return
            self._streaming = True
            self.begun()
        if type(data) is not bytes and self._refuse_unsendable(data):
            return
        if not self._outbox.chunk(self._id, data):
            why = "the answer was cut: its reader is too slow"
            self.refuse(failure(503, why, "slow_reader", code="slow_reader"))

    def untimed(self) -> None:
        self._first_token_s = 0.0

    def done(self, usage: Usage, finish_reason: str, figures: Figures | None = None, first_logits: bytes = b"") -> None:
        if self._open:
            done = Done(
                id=self._id,
                usage=usage,
                finish_reason=finish_reason,
                timings=self._timings(),
                figures=figures,
                first_logits=first_logits,
            )
            self._outbox.end(done)
            self._close()

    def handoff(self, handed: Handoff) -> None:
        if self._open:
            self._outbox.end(msgspec.structs.replace(handed, id=self._id, timings=self._timings()))
            self._close()

    def fail(self, failure: ErrorAnswer) -> None:
        if self._open:
            self._send_failure(failure)
            self._close()

    def _timings(self) -> Timings:
        return Timings(self._first_token_s, self._loop.time() - self._received)

    def _refuse_unsendable(self, data: object) -> bool:
        """Whether `data` is no bytes. Any value makes a frame: the peer could not read it, and would give up the
        connection and all its answers."""
        if isinstance(data, bytearray | memoryview):
            return False
        error = TypeError(f"an answer's chunk: expected bytes, got {type(data).__name__}")
        self._loop.call_exception_handler({"message": "chunks could not be sent", "exception": error})
        self.refuse(engine_failed(f"the answer could not be sent: {error}"))
        return True

    def _too_late(self, deadline_s: float) -> None:
        why = f"no complete answer within {deadline_s:g} s"
        self.refuse(failure(504, why, "timeout_error", code="deadline_exceeded"))

    def _send_failure(self, why: ErrorAnswer) -> None:
        self._outbox.end(Fail(id=self._id, status=why.status, body=why.body, code=why.code, retryable=why.retryable))

    def _halt(self) -> None:
        stop = self._stop
        self._close()
        if stop is not None:
            try:
                stop()
            except Exception as error:  # where many are ended at once, the others must be too
                self._loop.call_exception_handler({"message": "a generation could not be stopped", "exception": error})

    def _close(self) -> None:
        self._open = self._streaming = False
        self._stop = None
        if self._timer is not None:
            self._timer.cancel()
        self._closed(self._id)
