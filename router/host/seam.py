"""The tokens of an answer that another model began, as the model that goes on is to read them: behind its own prompt.

Knows strings and an encoder, no tokenizer's kind. A partial answer always comes as text: ids are of its writer's
vocabulary, and a cut inside a character leaves bytes that no text can hold.
"""

from collections.abc import Callable

#: Before a text whose encoder puts a blank before each text: no such encoder joins a newline with what follows.
_SENTINEL = "\n"


class Behind:
    """Encodes text as it stands behind a prompt that was encoded by itself.

    E(prompt) + E(text), not E(prompt + text): so does the engine that began the answer, and the prompt's blocks are
    found in the prefix cache. SentencePiece puts a blank before each text, which nobody wrote: there, text is encoded
    behind a newline, whose ids are cut off.
    """

    def __init__(self, encode: Callable[[str], list[int]]) -> None:
        """`encode(text)`: without special tokens around."""
        self._plain = encode
        self._newline: list[int] = []
        self._blank_before: bool | None = None  #: None: not tried yet

    def __call__(self, text: str, look: str = "") -> list[int]:
        """`look`: what would have come next. It decides how the end of `text` is cut into tokens, where no token holds
        of both."""
        if not text:
            return []
        if look:
            both, after = self._encoded(text + look), self._encoded(look)
            # Both decode to the same end, so what is before it decodes to `text`.
            if after and both[-len(after) :] == after:
                return both[: -len(after)]
        return self._encoded(text)

    def _encoded(self, text: str) -> list[int]:
        if self._blank_before is None:
            self._newline = self._plain(_SENTINEL)
            self._blank_before = self._cut("x") != self._plain("x")
        return self._cut(text) if self._blank_before else self._plain(text)

    def _cut(self, text: str) -> list[int]:
        ids = self._plain(_SENTINEL + text)
        size = len(self._newline)
        return ids[size:] if ids[:size] == self._newline else self._plain(text)
