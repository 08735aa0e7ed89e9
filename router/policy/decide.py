"""The decision: argmax of quality - price * cost over the members that pass every hard rule.

With two models this is RouteLLM's threshold rule; `router-mf-0.116` uses that rule itself.
"""

import math
from collections.abc import Sequence

from router.errors import BadRequest, ContextTooLong, NoEngine, Overloaded, RouterError
from router.policy.cost import terms as terms_of
from router.policy.rules import SOFT_RULES
from router.policy.settings import Settings
from router.types import Decision, Query, Scores, Snapshot, Term


def decide(query: Query, scores: Scores, snapshot: Snapshot, settings: Settings, *, id: str = "") -> Decision:
    """Choose a member. `scores.quality` is in the order of `snapshot.members`.

    When none can serve: `NoEngine`, `Overloaded` (all queues are full), `ContextTooLong` or `BadRequest` (no model of
    the pool can do what is asked).
    """
    terms = terms_of(query, scores, snapshot, settings)
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


def _candidates(terms: Sequence[Term]) -> list[int]:
    candidates = [i for i, term in enumerate(terms) if term.excluded is None]
    if candidates:
        return candidates
    for rule in SOFT_RULES:
        candidates = [i for i, term in enumerate(terms) if term.excluded == rule]
        if candidates:
            return candidates
    raise _refusal(terms)


def _refusal(terms: Sequence[Term]) -> RouterError:
    """Why no member of the pool can serve. What may pass (a full queue, an engine that starts) comes first."""
    why = ", ".join(f"{term.model}: {term.excluded}" for term in terms)
    rules = {term.excluded for term in terms}
    if "queue_full" in rules:
        return Overloaded(f"every model that could take this request has a full queue ({why})", retry_after_s=1.0)
    if "not_ready" in rules or "tried" in rules:
        return NoEngine(f"no model of the pool can take this request now ({why})", retry_after_s=1.0)
    if "context" in rules:
        return ContextTooLong(f"the prompt is longer than the context of any model that could answer ({why})")
    return BadRequest(f"no model of the pool can do what this request asks ({why})", code="unsupported")


def _by_utility(id: str, terms: tuple[Term, ...], candidates: list[int]) -> Decision:
    """Ties go to the cheaper model, then to the one that stands first in the pool."""
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


def _pinned(id: str, terms: tuple[Term, ...], settings: Settings) -> Decision:
    """A pinned request goes to its model or nowhere. The engine itself says what it cannot do or read."""
    term = terms[settings.pinned]
    if term.excluded == "queue_full":
        raise Overloaded(f"model {term.model!r} has a full queue", retry_after_s=1.0)
    if term.excluded in ("not_ready", "tried"):
        raise NoEngine(f"model {term.model!r} is not available now ({term.excluded})", retry_after_s=1.0)
    return Decision(id=id, model=term.model, member=settings.pinned, reason="pinned", terms=terms, score=term.quality)
