"""The sending half of a connection, and how what one read brings for many of them leaves at once.

Called from one event loop's thread. Sending releases the GIL. The one call for many sockets: csrc/ring.hpp.
"""

import asyncio
from collections.abc import Callable

class SendBatch:
    """What one read from an engine host brings for clients: gathered, then sent together, at the end of that read.

    A client's bytes keep their order and leave as one packet; nothing is kept from one read to the next.
    """

    io_uring: bool  #: all is sent in one system call
    before: Callable[[], None] | None  #: called before anything that was gathered leaves; must not raise
    def __init__(self, io_uring: bool = True) -> None:
        """Without `io_uring`, or where the system does not let us, each client's bytes are a call of their own."""

class Writer:
    """The sending half of a connection, as far as it concerns every token. A connection derives from it, and has
    `stream_slowly(data)`, for a client that does not keep up, and `broke(error)`, for a transport that fails."""

    open: bool  #: there is a transport
    stalled: bool  #: more unsent bytes than the high-water mark: `stream` calls `stream_slowly`
    written: int  #: bytes, without those that are gathered
    socket: int  #: the transport's file descriptor, or -1: written to directly while nothing waits in the transport
    batch: SendBatch | None  #: of the pool whose reads may gather for this connection
    def attach(self, transport: asyncio.Transport | None) -> None:
        """Send to `transport` from now on. None once the client is gone: what is sent then goes nowhere."""

    def flushed(self) -> asyncio.Transport | None:
        """The transport, after sending what was gathered for it: to be asked for before anything is done to it."""

    def write(self, data: bytes) -> None: ...
    def stream(self, data: bytes) -> None: ...
