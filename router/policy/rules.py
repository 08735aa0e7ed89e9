"""The hard rules: what rules a member out whatever its utility."""

from router.policy.settings import Settings
from router.types import MemberState, Query

#: The prompt's size is an estimate in another tokenizer's tokens, so a member is only ruled out when the estimate is
#: beyond doubt; what slips through is refused by the engine and tried on a larger context.
CONTEXT_DOUBT = 2.0

#: Rules that are given up, in this order, when they leave no member: better slow than refused, and a breaker that is
#: open everywhere must let one request through to learn whether it can close.
SOFT_RULES = ("slo", "breaker_open")


def exclusion(
    index: int, member: MemberState, query: Query, prompt_tokens: int, wait_s: float, settings: Settings
) -> str | None:
    """The first rule that `member` breaks, or None. The names are stable: they reach headers."""
    if index in settings.excluded:
        return "tried"
    if not member.ready:
        return "not_ready"
    if not query.needs <= member.capabilities:
        return "capability"
    if member.context_tokens and prompt_tokens > CONTEXT_DOUBT * member.context_tokens:
        return "context"
    if member.waiting >= settings.most_waiting:
        return "queue_full"
    if member.breaker_open:
        return "breaker_open"
    slo = query.slo_ttft_s if query.slo_ttft_s is not None else settings.slo_ttft_s
    if slo is not None and wait_s > slo:
        return "slo"
    return None
