"""The traffic that a plan is made for: tokens of a request, and how many requests are answered at once.

Little's law gives the second from a rate: requests a second * seconds of an answer. Knows no journal and no flag.
"""

import math
from collections.abc import Mapping
from typing import Final

import msgspec

from router.errors import ConfigError

#: Where nothing is told of a member's speed: of an 8 B model on a data-centre GPU under load, roughly.
_PREFILL_TOKENS_PER_S: Final = 10_000.0
_OUTPUT_TOKEN_S: Final = 0.03
_MOST: Final = 1_000_000_000


class Mix(msgspec.Struct, frozen=True, kw_only=True):
    """Of the whole pool."""

    prompt_tokens: float = 1000.0  #: of a mean request
    output_tokens: float = 250.0
    concurrency: float | None = None  #: requests answered at once; None: not told
    requests_per_s: float | None = None
    shares: Mapping[str, float] = {}  #: of the requests, by member; empty: equal ones
    told: bool = False  #: by flags, config or a journal; else the numbers above are a default

    @property
    def tokens(self) -> int:
        """Of a mean request at its end."""
        return math.ceil(self.prompt_tokens + self.output_tokens)


def check(mix: Mix, names: Mapping[str, str] | None = None) -> None:
    """Raises `ConfigError`. `names`: what the fields are called where they were given."""
    called = names or {}
    for field in ("prompt_tokens", "output_tokens", "concurrency", "requests_per_s"):
        value = getattr(mix, field)
        if value is not None and not 0 <= value <= _MOST:  # not of NaN, too
            raise ConfigError(f"{called.get(field, field)}: expected 0 to {_MOST:,}, got {value:g}")
    if mix.tokens < 1:
        raise ConfigError("expected requests of one token at the least: prompt and output tokens are 0")


def share_of(mix: Mix, name: str, members: int) -> float:
    """Of the requests, that a member of so many answers."""
    total = sum(mix.shares.values())
    return mix.shares.get(name, 0.0) / total if total > 0 else 1.0 / max(1, members)


def at_once(mix: Mix, share: float, prefill_tokens_per_s: float, output_token_s: float) -> float | None:
    """Requests that one member answers at once; None where the mix does not tell. Rates of 0: not known."""
    if mix.concurrency is not None:
        return mix.concurrency * share
    if mix.requests_per_s is None:
        return None
    prefill_s = mix.prompt_tokens / (prefill_tokens_per_s or _PREFILL_TOKENS_PER_S)
    return mix.requests_per_s * share * (prefill_s + mix.output_tokens * (output_token_s or _OUTPUT_TOKEN_S))
