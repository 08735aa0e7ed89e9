"""csrc/replicas.hpp again, in plain Python and one operation after another: what the native choice is compared with."""

from collections.abc import Sequence

from router.policy import Settings
from router.types import MemberState, Query
from tests.policy import policy_twin as policy

SEQUENCES_THAT_DOUBLE = 32
#: From the one that says least against an engine to the one that says most.
STANDINGS = (None, "slo", "breaker_open", "queue_full", "context", "capability", "not_ready")


def finish_s(member: MemberState, query: Query, prompt_tokens: int, wait_s: float) -> float:
    output = member.mean_output_tokens or policy.DEFAULT_OUTPUT_TOKENS
    if query.max_tokens is not None and output > query.max_tokens:
        output = float(query.max_tokens)
    beside = float(member.running) + float(member.waiting)
    token_s = (member.time_per_output_token_s or policy.DEFAULT_TIME_PER_OUTPUT_TOKEN_S) * (
        1 + beside / SEQUENCES_THAT_DOUBLE
    )
    if member.cost_trust > 0:
        held = float(member.held_tokens) + prompt_tokens + output / 2
        step_s = member.step_s + (beside + query.choices) * member.step_running_s + held * member.step_context_s
        token_s = token_s + member.cost_trust * (step_s - token_s)
    return wait_s + output * token_s


def wait_s(member: MemberState, prompt_tokens: int) -> float:
    uncached = prompt_tokens * (1.0 - member.prefix_hit)
    wait_s = member.queued_gpu_s + uncached / (member.prefill_tokens_per_s or policy.DEFAULT_PREFILL_TOKENS_PER_S)
    if member.wait_trust > 0:
        wait_s = wait_s + member.wait_trust * (policy.model_wait_s(member, uncached) - wait_s)
    return wait_s


def best(
    engines: Sequence[MemberState], query: Query, prompt_tokens: int, settings: Settings
) -> tuple[int, int, float, float]:
    """The best, the next one (itself where there is no other), and when both are predicted to finish."""
    ranked = []
    for i, engine in enumerate(engines):
        wait = wait_s(engine, prompt_tokens)
        rule = policy.exclusion(-1, engine, query, prompt_tokens, wait, settings)
        finish = finish_s(engine, query, prompt_tokens, wait)
        ranked.append((STANDINGS.index(rule), finish, engine.running + engine.waiting, i))
    ranked.sort()
    first, second = ranked[0], ranked[min(1, len(ranked) - 1)]
    return first[3], second[3], first[1], second[1]
