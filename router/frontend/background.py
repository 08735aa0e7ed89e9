"""An answer that is made whether or not its client waits: `background` of the Responses API.

The client is told at once, or streamed to for as long as it listens. The request goes on until the member has made the
answer, and holds its slot until then: so such answers are as many as others may be.
"""

import re
from typing import Final

from router.errors import RouterError
from router.frontend.answer import Answer
from router.gate.permit import Permit
from router.ipc.messages import Done
from router.native.call import Receiver
from router.pipeline.service import Service, Ticket
from router.types import Decision, Query

_NOTHING_MORE = Done(id=0)
_OUTSIDE: Final = re.compile(rb'["{}\[\]]')
_IN_STRING: Final = re.compile(rb'["\\]')


class Background(Receiver):
    """The `Sink` of such a request, and the `Stream` of its exchange."""

    def __init__(self, answer: Answer) -> None:
        """`answer` goes to the client; it knows nothing of the request."""
        self._answer: Answer | None = answer
        self._ticket: Ticket | None = None
        self._json = _Json()  #: that tells of the answer
        self._begun = False  #: something of it has come: from now on the client may leave

    def submit(self, service: Service, query: Query, permit: Permit) -> None:
        """Raises what the service refuses with."""
        assert self._answer is not None
        exchange = self._answer.exchange()
        self._ticket = service.submit(query, exchange.body, self, traceparent=exchange.traceparent, permit=permit)
        self._answer.accepted()
        exchange.stream = self

    # Sink

    def start(self, decision: Decision) -> None:
        self._begun = True
        if self._answer is not None:
            self._answer.start(decision)

    def chunk(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            return
        answer.chunk(data)
        if not answer.stream:
            if self._json.ends_in(data):
                self._end()
                answer.done(_NOTHING_MORE)

    def done(self, done: Done) -> None:
        if (answer := self._end()) is not None:
            answer.done(done)

    def fail(self, error: RouterError) -> None:
        if (answer := self._end()) is not None:
            answer.fail(error)

    # Stream

    def gone(self) -> None:
        ticket = self._ticket
        if (answer := self._end()) is not None:
            answer.gone()
        if ticket is not None and not self._begun:  # nobody knows its id
            ticket.cancel()

    def cut(self, error: RouterError) -> None:
        if (answer := self._end()) is not None:
            answer.cut(error)

    def _end(self) -> Answer | None:
        """The client has its answer, or has left: nothing of it is kept while the request goes on."""
        answer, self._answer, self._ticket = self._answer, None, None
        return answer


class _Json:
    """Finds where an object ends that comes in pieces. Each byte is looked at once, and none is kept."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False  #: the next byte, which is in a string, means itself

    def ends_in(self, piece: bytes) -> bool:
        """Whether `piece` has the end of the outermost object or list."""
        at = 0
        while at < len(piece):
            if self._escaped:
                self._escaped, at = False, at + 1
                continue
            found = (_IN_STRING if self._in_string else _OUTSIDE).search(piece, at)
            if found is None:
                return False
            at = found.end()
            if self._take(found[0]):
                return True
        return False

    def _take(self, mark: bytes) -> bool:
        if mark == b"\\":
            self._escaped = True
        elif mark == b'"':
            self._in_string = not self._in_string
        elif mark in b"{[":
            self._depth += 1
        else:
            self._depth -= 1
            return self._depth == 0
        return False
