"""What an answer would cost on one member: GPU seconds, dollars, and the wait for the first token.

    g = uncached prompt tokens / prefill rate + E[output tokens] * time per output token
    c = g * USD per second of the GPU share
    w = g of what is queued + own prefill
"""

from router.types import MemberState, Query

#: Used until a member's own rates are known: a mid-size model on one GPU.
DEFAULT_PREFILL_TOKENS_PER_S = 5_000.0
DEFAULT_TIME_PER_OUTPUT_TOKEN_S = 0.02
DEFAULT_OUTPUT_TOKENS = 200.0


def prefill_s(member: MemberState, prompt_tokens: int) -> float:
    """Seconds to read the part of the prompt that the prefix cache does not hold."""
    rate = member.prefill_tokens_per_s or DEFAULT_PREFILL_TOKENS_PER_S
    return prompt_tokens * (1.0 - member.prefix_hit) / rate


def output_tokens(member: MemberState, query: Query) -> float:
    """Expected length of the answer, in tokens over all choices."""
    expected = member.mean_output_tokens or DEFAULT_OUTPUT_TOKENS
    if query.max_tokens is not None:
        expected = min(expected, float(query.max_tokens))
    return expected * query.choices


def gpu_s(member: MemberState, query: Query, prompt_tokens: int) -> float:
    """GPU seconds of the whole answer at the batch size of now."""
    per_token = member.time_per_output_token_s or DEFAULT_TIME_PER_OUTPUT_TOKEN_S
    return prefill_s(member, prompt_tokens) + output_tokens(member, query) * per_token


def wait_s(member: MemberState, prompt_tokens: int) -> float:
    """Predicted time to first token."""
    return member.queued_gpu_s + prefill_s(member, prompt_tokens)
