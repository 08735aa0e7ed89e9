"""A question to an engine host that one `Control` answers: whoever asks meanwhile waits for the same answer."""

import asyncio
from collections.abc import Callable


class Question:
    """At most one is open. Called from the event loop's thread."""

    def __init__(self) -> None:
        self._answer: asyncio.Future[str] | None = None

    def put(self, send: Callable[[], None]) -> "asyncio.Future[str]":
        """Its answer, which is cancelled when the engine is lost. Shield it: others wait for it too."""
        if self._answer is None:
            self._answer = asyncio.get_running_loop().create_future()
            send()
        return self._answer

    def answered(self, text: str) -> None:
        """An answer that nobody has asked for is ignored."""
        answer, self._answer = self._answer, None
        if answer is not None and not answer.done():
            answer.set_result(text)

    def lost(self) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.cancel()
