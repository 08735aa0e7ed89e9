"""The one writer of answers: heads, chunks and ends, whole or streamed, whichever steps of their requests were native.

    no head yet --begin--> head due --first chunk--> under way --end--> over        a stream
    no head yet --chunks are collected--> (`collected` is sent whole) --> over      a whole answer

A streamed chunk costs one framing and one write; what one read of an engine brings leaves as `native.writer` says.
Knows neither the pool nor what was decided; called from the event loop's thread.
"""

from router.errors import RouterError
from router.frontend.listener import Listener
from router.native.call import Receiver
from router.native.request import BaseRequest, Receivers, Requests
from router.native.writer import Writer

class Reply(Receiver):
    """The answer of one request on its connection."""

    connection: Writer
    stream: bool
    old_client: bool  #: HTTP/1.0: knows no chunks
    over: bool
    request: BaseRequest | None  #: whose answer it is, of one that native code began; None after its end
    def __init__(self, connection: Writer, stream: bool, old_client: bool, most_bytes: int) -> None:
        """`most_bytes`: of an answer that is collected; beyond, it is cut (`cut`)."""

    def begin(self, head: bytes) -> None:
        """The head of a stream, which leaves with its first chunk or its end."""

    def chunk(self, data: bytes) -> None: ...
    def end(self, last: bytes = b"") -> None:
        """The end of a stream, after `last`."""

    def close(self) -> None:
        """Chunks go nowhere from now on."""

    def collected(self) -> bytes: ...
    def cut(self, error: RouterError) -> None:
        """End with `error`, now."""

    def fail(self, error: RouterError) -> None:
        """End a stream that has begun with an error event."""

class Heads(Receivers):
    """Makes the replies to requests that native code began, and writes their heads from numbers."""

    def __init__(
        self,
        listener: Listener,
        reply_class: type[Reply],
        requests: Requests,
    ) -> None:
        """`reply_class`: of what it makes, without calling `__init__`."""

def lines(
    request_id: str, about: str, overhead_s: float, decision_id: str, score: float | None, threshold: float | None
) -> str:
    """The header lines that say what became of a request; `about` holds those of its model and reason. All ASCII."""
