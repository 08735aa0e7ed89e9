"""How many tokens a request may generate. Pure arithmetic, as vLLM does it."""


class Limits:
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
