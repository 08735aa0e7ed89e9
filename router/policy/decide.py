"""The decision: argmax of quality - price * cost over the members that pass every hard rule.

With two models this is RouteLLM's threshold rule; `router-mf-0.116` uses that rule itself.
"""

import math

from router.errors import NoEngine
from router.policy import cost
from router.policy.rules import exclusion
from router.policy.settings import Settings
from router.types import Decision, MemberState, Query, Scores, Snapshot, Term

#: Rules that are given up, in this order, when they leave no member: better slow than refused, and a breaker that is
#: open everywhere must let one request through to learn whether it can close.
_SOFT_RULES = ("slo", "breaker_open")


def decide(query: Query, scores: Scores, snapshot: Snapshot, settings: Settings, *, id: str = "") -> Decision:
    """Choose a member. `scores.quality` is in the order of `snapshot.members`. Raises `NoEngine` when none can serve."""
    terms = tuple(
        [
            _term(i, member, quality, query, scores.prompt_tokens, settings)
            for i, (member, quality) in enumerate(zip(snapshot.members, scores.quality, strict=True))
        ]
    )
    if settings.rule == "pinned":
        return _pinned(id, terms, settings)
    candidates = _candidates(terms)
    if settings.rule == "threshold" and settings.strong in candidates and settings.weak in candidates:
        return _by_threshold(id, terms, settings)
    return _by_utility(id, terms, candidates)


def win_rate(strong: float, weak: float) -> float:
    """P(the strong model is the better answer): sigmoid of the logits' difference (RouteLLM, eq. 2; Bradley-Terry)."""
    return 1.0 / (1.0 + math.exp(_logit(weak) - _logit(strong)))


def _logit(quality: float) -> float:
    quality = min(max(quality, 1e-6), 1.0 - 1e-6)
    return math.log(quality / (1.0 - quality))


def _term(
    index: int, member: MemberState, quality: float, query: Query, prompt_tokens: int, settings: Settings
) -> Term:
    gpu_s = cost.gpu_s(member, query, prompt_tokens)
    wait_s = cost.wait_s(member, prompt_tokens)
    cost_usd = gpu_s * member.usd_per_s
    return Term(
        model=member.name,
        quality=quality,
        gpu_s=gpu_s,
        cost_usd=cost_usd,
        wait_s=wait_s,
        utility=quality - settings.price * cost_usd,
        excluded=exclusion(index, member, query, prompt_tokens, wait_s, settings),
    )


def _candidates(terms: tuple[Term, ...]) -> list[int]:
    candidates = [i for i, term in enumerate(terms) if term.excluded is None]
    for rule in _SOFT_RULES:
        if candidates:
            break
        candidates = [i for i, term in enumerate(terms) if term.excluded == rule]
    if not candidates:
        why = ", ".join(f"{term.model}: {term.excluded}" for term in terms)
        raise NoEngine(f"no model of the pool can take this request now ({why})", retry_after_s=1.0)
    return candidates


def _by_utility(id: str, terms: tuple[Term, ...], candidates: list[int]) -> Decision:
    # Ties go to the cheaper model.
    ranked = sorted(candidates, key=lambda i: (-terms[i].utility, terms[i].cost_usd))
    best = ranked[0]
    runner_up = ranked[1] if len(ranked) > 1 else None
    return Decision(
        id=id,
        model=terms[best].model,
        member=best,
        reason="only_candidate" if runner_up is None else "utility",
        terms=terms,
        runner_up=None if runner_up is None else terms[runner_up].model,
        margin=0.0 if runner_up is None else terms[best].utility - terms[runner_up].utility,
        score=terms[best].quality,
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


def _pinned(id: str, terms: tuple[Term, ...], settings: Settings) -> Decision:
    term = terms[settings.pinned]
    if term.excluded in ("not_ready", "tried"):
        raise NoEngine(f"model {term.model!r} is not available now ({term.excluded})", retry_after_s=1.0)
    return Decision(
        id=id, model=term.model, member=settings.pinned, reason="pinned", terms=terms, score=term.quality
    )
