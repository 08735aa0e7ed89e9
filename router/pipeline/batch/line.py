"""One line of a batch from its reading to its result: the receiver of its answer, however often it is begun."""

from collections.abc import Callable
from typing import Protocol

import msgspec

from router.dialects.refusals import body as body_of_error
from router.errors import ContentTooLarge, EngineFailed, RouterError
from router.ipc.messages import Done
from router.native.call import Receiver
from router.pipeline.batch.lines import UNREADABLE
from router.pipeline.batch.results import Response, Result, Where, encode
from router.pipeline.request import Request
from router.pool.base import PoolMember
from router.types import Decision, Query

#: Of a body; of most texts more.
_BYTES_A_TOKEN = 4

_decode = msgspec.json.Decoder(msgspec.Raw).decode


class Owner(Protocol):
    """What a line tells of its end (`lane.Lane`)."""

    def answered(self, line: "Line") -> None: ...

    def failed(self, line: "Line", error: RouterError) -> None: ...


class Home(Protocol):
    """Where a line comes from (`run.Run`)."""

    def put_back(self, line: "Line") -> None: ...

    def finished(self, line: "Line", where: Where, result: bytes) -> None: ...


class Line(Receiver):
    """`owner` is set while it runs."""

    def __init__(
        self, run: Home, number: int, custom_id: str, query: Query, body: bytes, most_answer_bytes: int
    ) -> None:
        self.run = run
        self.id = query.request_id  #: that of the result
        self.number = number
        self.begun = 0  #: how often
        self.custom_id = custom_id
        self.query = query
        self.body = body
        self.most_answer_bytes = most_answer_bytes
        self.tries = 0  #: that ended in an error of the engine
        self.put_back = 0  #: how often it made room
        self.again_s = 0.0  #: not begun before, by `time.monotonic`
        self.wanted: PoolMember | None = None  #: that would get it, as of `wanted_s`
        self.wanted_s = 0.0
        self.begun_s = 0.0
        self.reading_until_s = 0.0  #: while its prompt is taken to be read
        self.prompt_tokens = len(body) // _BYTES_A_TOKEN  #: not too few: an estimate that is too low lets others wait
        self.ticket: Request | None = None
        self.owner: Owner | None = None
        self._parts: list[bytes] = []
        self._bytes = 0

    @property
    def member(self) -> PoolMember | None:
        """The member that answers it; None: none yet."""
        return None if self.ticket is None else self.ticket.held_by

    def begin(self, owner: Owner, now_s: float) -> None:
        """Start anew. The request id is another one each time: an engine may still have the one before."""
        self.owner, self.begun_s = owner, now_s
        self._parts, self._bytes = [], 0
        self.begun += 1
        if self.begun > 1:
            self.query = msgspec.structs.replace(self.query, request_id=f"{self.id}-{self.begun}")

    def stop(self, why: RouterError) -> None:
        """Abort it; it hears no more of the answer."""
        ticket, self.ticket, self.owner = self.ticket, None, None
        self._parts, self._bytes = [], 0
        if ticket is not None:
            ticket.cancel(why)

    # Receiver

    def start(self, decision: Decision) -> None: ...

    def chunk(self, data: bytes) -> None:
        self._parts.append(data)
        self._bytes += len(data)
        if self._bytes > self.most_answer_bytes and self.owner is not None:
            owner, error = self.owner, ContentTooLarge(f"the answer is over {self.most_answer_bytes} bytes")
            self.stop(error)
            owner.failed(self, error)

    def done(self, done: Done) -> None:
        self._end(lambda owner: owner.answered(self))

    def fail(self, error: RouterError) -> None:
        self._end(lambda owner: owner.failed(self, error))

    # Its result

    def result(self) -> tuple[Where, bytes]:
        """Of the answer that has come."""
        body, self._parts = b"".join(self._parts), []
        try:
            body.decode()
            _decode(body)
        except UNREADABLE:
            return self.result_of(EngineFailed("the engine's answer is not JSON"))
        return "output", self._encoded(200, body)

    def result_of(self, error: RouterError) -> tuple[Where, bytes]:
        return "errors", self._encoded(error.status, error_body(error, self.query))

    def _encoded(self, status: int, body: bytes) -> bytes:
        return response_line(self.id, self.custom_id, status, body, self.query.request_id)

    def _end(self, tell: Callable[[Owner], None]) -> None:
        owner, self.owner, self.ticket = self.owner, None, None
        if owner is not None:
            tell(owner)


def error_body(error: RouterError, query: Query) -> bytes:
    return body_of_error(error, "anthropic" if query.kind == "messages" else "openai")


def response_line(id: str, custom_id: str, status: int, body: bytes, request_id: str = "") -> bytes:
    """The result of a line that got a response, whatever its status. `request_id`: as in the ledger, where it is not
    `id`."""
    # A result is one line; in JSON a raw line break can only be white space between tokens.
    raw = msgspec.Raw(body.replace(b"\r", b" ").replace(b"\n", b" "))
    return encode(Result(id=id, custom_id=custom_id, response=Response(status, request_id or id, raw))) + b"\n"
