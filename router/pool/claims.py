"""Clamps the numbers in an engine's messages to bounds, so that a wrong one neither raises nor spoils learnt rates.

A number out of bounds counts as 0, unknown. csrc/frame.hpp and csrc/load.hpp apply the same bounds to what is read
natively. Knows no connection.
"""

from typing import Final

import msgspec

from router.ipc.messages import Done
from router.types import Timings, Usage

#: Of one answer, one context, one queue.
MOST_TOKENS: Final = 1 << 30
MOST_SECONDS: Final = 1e7


def plausible(done: Done) -> Done:
    """`done`, its figures in bounds."""
    usage, timings = done.usage, done.timings
    # Together first, which is less work: no bit of any is beyond the bound, and a first token is no later than the end.
    all_counts = usage.prompt_tokens | usage.completion_tokens | usage.cached_tokens
    if 0 <= all_counts <= MOST_TOKENS and 0.0 <= timings.first_token_s <= timings.total_s <= MOST_SECONDS:
        return done
    return msgspec.structs.replace(done, usage=plausible_usage(usage), timings=plausible_timings(timings))


def plausible_usage(usage: Usage) -> Usage:
    return Usage(tokens(usage.prompt_tokens), tokens(usage.completion_tokens), tokens(usage.cached_tokens))


def plausible_timings(timings: Timings) -> Timings:
    return Timings(seconds(timings.first_token_s), seconds(timings.total_s))


def tokens(claimed: int) -> int:
    return claimed if 0 <= claimed <= MOST_TOKENS else 0


def seconds(claimed: float) -> float:
    return claimed if 0.0 <= claimed <= MOST_SECONDS else 0.0
