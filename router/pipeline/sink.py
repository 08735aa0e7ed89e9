"""What the pipeline calls as an answer comes in: a `native.call.Receiver`, typed. Callbacks, not tasks.

The order is `start`, `chunk`*, then exactly one of `done` and `fail`; `fail` may come without a `start`.
"""

from typing import Protocol

from router.errors import RouterError
from router.ipc.messages import Done
from router.types import Decision


class Sink(Protocol):
    """One request's `Receiver`: an HTTP response, or a library caller. Called from the event loop's thread."""

    def start(self, decision: Decision) -> None:
        """The first chunk is about to come; from here on `decision.model` is the one that answers."""
        ...

    def chunk(self, data: bytes) -> None:
        """Body bytes: whole SSE events (`data: ...\\n\\n`, the closing `[DONE]` included), or JSON."""
        ...

    def done(self, done: Done) -> None: ...

    def fail(self, error: RouterError) -> None:
        """The answer ended in an error, before (`start` was not called) or after its first chunk."""
        ...
