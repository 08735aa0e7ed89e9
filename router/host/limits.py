"""The longest prompt and the most generated tokens that a request may have. Arithmetic only, the same as vLLM's."""

from typing import Any

import msgspec


class TooLong(ValueError):
    """A prompt that cannot fit, whatever its tokens are; says so."""


class Bounds(msgspec.Struct, frozen=True):
    """What certainly does not fit a context, told before it is rendered or cut into tokens. Each raises `TooLong`."""

    context_tokens: int
    token_characters: int = 0  #: of the longest token; 0: unknown
    messages_count: bool = False  #: every message of a chat costs a token at least

    def most(self) -> tuple[int, int, int]:
        """Messages, characters and tokens that none of the checks below refuses."""
        characters = self.context_tokens * self.token_characters or 2**63
        return self.context_tokens if self.messages_count else 2**63, characters, self.context_tokens

    def text(self, text: str) -> None:
        most = self.context_tokens * self.token_characters
        if most and len(text) > most:
            raise self._refusal(f"{len(text)} characters (more than the {most} that so many tokens can hold)")

    def tokens(self, count: int) -> None:
        if count > self.context_tokens:
            raise self._refusal(f"{count} tokens")

    def messages(self, count: int) -> None:
        if self.messages_count and count > self.context_tokens:
            raise self._refusal(f"{count} messages, each of a token at least")

    def body(self, body: dict[str, Any]) -> None:
        """Any of the APIs' bodies, as far as its prompt stands in it word for word."""
        if body.get("truncate_prompt_tokens") is not None:
            return
        if isinstance(body.get("messages"), list):
            self.messages(len(body["messages"]))
        for prompt in (body.get("prompt"), body.get("input")):
            if isinstance(prompt, str):
                self.text(prompt)
        prompt = body.get("prompt")
        if isinstance(prompt, list) and prompt and type(prompt[0]) is int:
            self.tokens(len(prompt))

    def _refusal(self, what: str) -> TooLong:
        return TooLong(f"This model's maximum context length is {self.context_tokens} tokens. Your prompt has {what}.")


#: Where no engine says what it holds.
NO_BOUNDS = Bounds(2**63)


class TokenLimits:
    """How many tokens a request may generate, as vLLM reckons it."""

    def __init__(self, context_tokens: int, clamps: bool, default: int | None, override: int | None) -> None:
        """`clamps`: more than the context holds is cut to it; else vLLM refuses such a request."""
        self.context_tokens = context_tokens
        self._clamps = clamps
        self._default = default
        self._override = override

    def max_tokens(self, prompt_tokens: int, asked: int | None) -> int | None:
        """None: let vLLM decide, or refuse."""
        room = self.context_tokens - prompt_tokens
        if room < 1 or (asked is not None and asked < 1):
            return None
        if asked is not None and (asked > self.context_tokens or (asked > room and not self._clamps)):
            return None
        wanted = self._default if asked is None else asked
        return min(limit for limit in (room, wanted, self._override) if limit is not None)

    def left(self, prompt_tokens: int, asked: int | None, spent: int) -> int:
        """Of an answer that other engines made `spent` tokens of, which the prompt holds too. 0: it is at its end."""
        wanted = self._default if asked is None else asked
        bounds = [limit - spent for limit in (wanted, self._override) if limit is not None]
        return max(0, min([self.context_tokens - prompt_tokens, *bounds]))
