"""What an answer would cost on one member: GPU seconds, dollars, and the wait for the first token.

g = uncached prompt tokens / prefill rate + E[output tokens] * time per output token
c = g * USD per second of the GPU share
w = g of what is queued + own prefill
"""

import math

from router.policy.rules import exclusion
from router.policy.settings import Settings
from router.types import Query, Scores, Snapshot, Term

#: Used until a member's own rates are known: a mid-size model on one GPU.
DEFAULT_PREFILL_TOKENS_PER_S = 5_000.0
DEFAULT_TIME_PER_OUTPUT_TOKEN_S = 0.02
DEFAULT_OUTPUT_TOKENS = 200.0


def terms(query: Query, scores: Scores, snapshot: Snapshot, settings: Settings) -> tuple[Term, ...]:
    """Every member's numbers, in the pool's order. `scores.quality` must be in that order too."""
    # One plain loop, 0.5 us a member: with 32 members this is what a decision costs.
    prompt_tokens, choices, price, needs = scores.prompt_tokens, query.choices, settings.price, query.needs
    most_output = math.inf if query.max_tokens is None else float(query.max_tokens)
    plain = not settings.excluded and query.slo_ttft_s is None and settings.slo_ttft_s is None
    most_waiting = settings.most_waiting
    found: list[Term] = []
    for member, quality in zip(snapshot.members, scores.quality, strict=True):
        rate = member.prefill_tokens_per_s or DEFAULT_PREFILL_TOKENS_PER_S
        prefill_s = prompt_tokens * (1.0 - member.prefix_hit) / rate
        output_tokens = member.mean_output_tokens or DEFAULT_OUTPUT_TOKENS
        if output_tokens > most_output:
            output_tokens = most_output
        per_token_s = member.time_per_output_token_s or DEFAULT_TIME_PER_OUTPUT_TOKEN_S
        gpu_s = prefill_s + output_tokens * choices * per_token_s
        wait_s = member.queued_gpu_s + prefill_s
        cost_usd = gpu_s * member.usd_per_s
        # What nearly every member passes, looked at first; `exclusion` alone says what is a rule.
        if (
            plain
            and member.ready
            and not member.breaker_open
            and member.waiting < most_waiting
            and (prompt_tokens <= member.context_tokens or not member.context_tokens)
            and needs <= member.capabilities
        ):
            excluded = None
        else:
            excluded = exclusion(len(found), member, query, prompt_tokens, wait_s, settings)
        found.append(
            Term(
                model=member.name,
                quality=quality,
                gpu_s=gpu_s,
                cost_usd=cost_usd,
                wait_s=wait_s,
                utility=quality - price * cost_usd,
                excluded=excluded,
            )
        )
    return tuple(found)
