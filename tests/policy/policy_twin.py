"""csrc/policy.hpp again, in plain Python and one operation after another: what the native numbers are compared with.

g = uncached prompt tokens / prefill rate + E[output tokens] * time per output token
c = g * USD per second of the GPU share * (1 + surcharge)
w = g of what is queued + own prefill

and as far as the step model is trusted, g and w are the model's.
"""

import dataclasses
import math
from collections.abc import Sequence

from router.policy import Settings
from router.types import Decision, MemberState, Query, Scores, Snapshot, Term

DEFAULT_PREFILL_TOKENS_PER_S = 5_000.0
DEFAULT_TIME_PER_OUTPUT_TOKEN_S = 0.02
DEFAULT_OUTPUT_TOKENS = 200.0
CONTEXT_DOUBT = 2.0
LEAST_OUTPUT, MOST_OUTPUT, MOST_LOG_SD = 1e-2, 2.0**30, 4.0
SQRT_HALF = 0.7071067811865475244
SOFT_RULES = ("slo", "breaker_open")


def decide(
    query: Query, scores: Scores, snapshot: Snapshot, settings: Settings, *, id: str = "", draw: float = 0.0
) -> Decision | None:
    """None where no member can serve."""
    found = terms(query, scores, snapshot, settings)
    decision = _decide(id, found, settings)
    return decision if decision is None or draw <= 0 else _divert(decision, found, snapshot, draw)


def _divert(decision: Decision, terms: tuple[Term, ...], snapshot: Snapshot, draw: float) -> Decision:
    for i, (term, member) in enumerate(zip(terms, snapshot.members, strict=True)):
        stands = term.excluded == "canary" and member.canary_of == decision.member and not member.breaker_open
        if stands and draw <= member.canary_weight:
            return dataclasses.replace(
                decision, model=member.name, member=i, reason="canary", threshold=None, terms=terms
            )
    return decision


def _decide(id: str, found: tuple[Term, ...], settings: Settings) -> Decision | None:
    if settings.rule == "pinned":
        return _pinned(id, found, settings)
    for rule in (None, *SOFT_RULES):
        candidates = [i for i, term in enumerate(found) if term.excluded == rule]
        if candidates:
            break
    else:
        return None
    if settings.rule == "threshold" and settings.strong in candidates and settings.weak in candidates:
        return _by_threshold(id, found, settings)
    return _by_utility(id, found, candidates)


def terms(query: Query, scores: Scores, snapshot: Snapshot, settings: Settings) -> tuple[Term, ...]:
    nothing = (0.0,) * len(scores.quality)
    told = zip(scores.output_tokens or nothing, scores.output_log_sd or nothing, strict=True)
    each = enumerate(zip(snapshot.members, scores.quality, told, strict=True))
    asked = query, scores.prompt_tokens, settings, common_trust(snapshot.members)
    return tuple(_term(i, member, quality, *length, *asked) for i, (member, quality, length) in each)


def common_trust(members: Sequence[MemberState]) -> float:
    """Of the member that is trusted least, of those that are compared."""
    trust = 1.0
    for member in members:
        if member.ready and member.usd_per_s > 0 and not member.canary_weight > 0:
            trust = min(trust, member.cost_trust)
    return trust


def _term(
    index: int,
    member: MemberState,
    quality: float,
    told_tokens: float,
    log_sd: float,
    query: Query,
    prompt_tokens: int,
    settings: Settings,
    trust: float,
) -> Term:
    uncached = prompt_tokens * (1.0 - member.prefix_hit)
    prefill_s = uncached / (member.prefill_tokens_per_s or DEFAULT_PREFILL_TOKENS_PER_S)
    output_tokens = expected_tokens(member, told_tokens, log_sd, query.max_tokens)
    per_token_s = member.time_per_output_token_s or DEFAULT_TIME_PER_OUTPUT_TOKEN_S
    gpu_s = prefill_s + output_tokens * query.choices * per_token_s
    trust = min(trust, member.cost_trust)
    if trust > 0:
        by_model = model_cost_s(member, prompt_tokens, uncached, output_tokens, query.choices)
        gpu_s = gpu_s + trust * (by_model - gpu_s)
    wait_s = member.queued_gpu_s + prefill_s
    if member.wait_trust > 0:
        wait_s = wait_s + member.wait_trust * (model_wait_s(member, uncached) - wait_s)
    cost_usd = gpu_s * member.usd_per_s * (1.0 + member.surcharge)
    return Term(
        model=member.name,
        quality=quality,
        gpu_s=gpu_s,
        cost_usd=cost_usd,
        wait_s=wait_s,
        utility=quality - settings.price * cost_usd + member.favour,
        excluded=exclusion(index, member, query, prompt_tokens, wait_s, settings),
        surcharge=member.surcharge,
        surcharge_of=member.surcharge_of,
        favour=member.favour,
    )


def expected_tokens(member: MemberState, told: float, log_sd: float, most: int | None) -> float:
    told = told * (1.0 + member.output_surplus)
    if LEAST_OUTPUT <= told <= MOST_OUTPUT:
        return told if most is None else capped_mean(told, min(log_sd, MOST_LOG_SD) if log_sd >= 0 else 0.0, most)
    tokens = member.mean_output_tokens or DEFAULT_OUTPUT_TOKENS
    return most if most is not None and tokens > most else tokens


def capped_mean(mean: float, log_sd: float, most: float) -> float:
    if most <= 0 or log_sd <= 0:
        return min(mean, float(most))
    at, half = math.log(most / mean) / log_sd, log_sd / 2
    if abs(at) > 8 + half:
        return mean if at > 0 else float(most)
    return mean * (math.erfc((half - at) * SQRT_HALF) / 2) + most * (math.erfc((half + at) * SQRT_HALF) / 2)


def model_cost_s(member: MemberState, prompt: float, uncached: float, output: float, choices: float) -> float:
    rows = output * choices
    own_s = uncached * member.step_prefill_s + rows * (
        member.step_running_s + (prompt + output / 2) * member.step_context_s
    )
    return own_s + member.busy * (rows * member.step_s / (float(member.running) + choices))


def model_wait_s(member: MemberState, uncached: float) -> float:
    running, held = float(member.running), float(member.held_tokens)
    step_s = member.step_s + running * member.step_running_s + held * member.step_context_s
    under_way_s = step_s / 2 if running > 0 else 0.0
    own_s = (uncached + member.queued_tokens) * member.step_prefill_s
    return member.overhead_s + (under_way_s + member.queued_steps * step_s + step_s + member.step_running_s + own_s)


def exclusion(
    index: int, member: MemberState, query: Query, prompt_tokens: int, wait_s: float, settings: Settings
) -> str | None:
    """The first rule that `member` breaks, or None."""
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
    if settings.shed_ttft_s is not None and wait_s > settings.shed_ttft_s:
        return "shed"
    if member.canary_weight > 0:
        return "canary"
    if member.breaker_open:
        return "breaker_open"
    slo = query.slo_ttft_s if query.slo_ttft_s is not None else settings.slo_ttft_s
    if slo is not None and wait_s > slo:
        return "slo"
    return None


def win_rate(strong: float, weak: float) -> float:
    return 1.0 / (1.0 + math.exp(_logit(weak) - _logit(strong)))


def _logit(quality: float) -> float:
    quality = min(max(quality, 1e-6), 1.0 - 1e-6)
    return math.log(quality / (1.0 - quality))


def best(quality: Sequence[float], cost_usd: Sequence[float], price: float) -> int:
    """argmax of quality - price * cost; ties go to the cheaper, then to the first."""
    best = 0
    for i in range(1, len(quality)):
        mine, others = quality[i] - price * cost_usd[i], quality[best] - price * cost_usd[best]
        if mine > others or (mine == others and cost_usd[i] < cost_usd[best]):
            best = i
    return best


def _by_utility(id: str, terms: tuple[Term, ...], candidates: list[int]) -> Decision:
    best, runner_up = candidates[0], -1
    most, second = terms[best].utility, -math.inf
    for i in candidates[1:]:
        utility = terms[i].utility
        if utility > most or (utility == most and terms[i].cost_usd < terms[best].cost_usd):
            best, most, runner_up, second = i, utility, best, most
        elif utility > second:
            runner_up, second = i, utility
    term = terms[best]
    if runner_up < 0:
        return Decision(id=id, model=term.model, member=best, reason="only_candidate", terms=terms, score=term.quality)
    return Decision(
        id=id,
        model=term.model,
        member=best,
        reason="utility",
        terms=terms,
        runner_up=terms[runner_up].model,
        margin=most - second,
        score=term.quality,
    )


def _by_threshold(id: str, terms: tuple[Term, ...], settings: Settings) -> Decision:
    score = win_rate(terms[settings.strong].quality, terms[settings.weak].quality)
    strong = score >= settings.threshold
    chosen, other = (settings.strong, settings.weak) if strong else (settings.weak, settings.strong)
    return Decision(
        id=id,
        model=terms[chosen].model,
        member=chosen,
        reason="threshold",
        terms=terms,
        runner_up=terms[other].model,
        margin=abs(score - settings.threshold),
        score=score,
        threshold=settings.threshold,
    )


def _pinned(id: str, terms: tuple[Term, ...], settings: Settings) -> Decision | None:
    term = terms[settings.pinned]
    if term.excluded in ("queue_full", "not_ready", "tried"):
        return None
    return Decision(id=id, model=term.model, member=settings.pinned, reason="pinned", terms=terms, score=term.quality)
