"""The decision in words: what the numbers chose (`router.native.policy`), or why no member can serve.

The rule itself, argmax of quality - price * cost over the members that pass every hard rule, stands in csrc/policy.hpp.
"""

from collections.abc import Sequence

from msgspec.structs import replace

from router.errors import BadRequest, ContextTooLong, NoEngine, Overloaded, RouterError
from router.native import policy as native
from router.native.fleet import Picks
from router.native.policy import Numbers
from router.policy.settings import Settings
from router.types import Decision, Query, Scores, Snapshot


def decide(
    query: Query,
    scores: Scores,
    pool: Snapshot | Picks,
    settings: Settings,
    *,
    id: str = "",
    reason: str | None = None,
    draw: float = 0.0,
) -> Decision:
    """Choose a member of `pool`, in whose order `scores.quality` is: members as they are, or an engine of each model as
    it was picked for this query. `reason` replaces the rule's own. `draw` (`pipeline.intake.draw_of`), above 0 and at
    most 1: a canary whose weight reaches it takes the request.

    When none can serve: `NoEngine`, `Overloaded` (all queues are full), `ContextTooLong` or `BadRequest` (no model of
    the pool can do what is asked). ValueError where a number is none, or scores and members differ in length.
    """
    if query.any_length:
        scores = _as_cut(scores, pool)
    try:
        return native.decision(query, scores, pool, settings, id, reason, draw)
    except native.Refused as refused:
        raise _refusal(refused.numbers) from None


def decide_again(numbers: Numbers, settings: Settings | None = None, *, id: str = "") -> Decision:
    """What would have been chosen by other settings, all else as it was; by None, what was. Raises as `decide`."""
    try:
        return native.decide_again(numbers, settings).decision(id)
    except native.Refused as refused:
        raise _refusal(refused.numbers) from None


def _as_cut(scores: Scores, pool: Snapshot | Picks) -> Scores:
    """Of a prompt that fits every member's context."""
    each = pool.context_tokens if isinstance(pool, Picks) else [member.context_tokens for member in pool.members]
    return replace(scores, prompt_tokens=min(scores.prompt_tokens, *filter(None, each), scores.prompt_tokens))


def _refusal(numbers: Numbers) -> RouterError:
    excluded = numbers.column("excluded")
    if "shed" in excluded and numbers.reason != "pinned":
        return _shed(numbers, excluded)
    if numbers.reason == "pinned":
        return _pin_refused(numbers.models[numbers.pinned], excluded[numbers.pinned])
    return _all_refused(numbers.models, excluded)


def _pin_refused(model: str, excluded: object) -> RouterError:
    """A pinned request goes to its model or nowhere."""
    if excluded == "queue_full":
        return Overloaded(f"model {model!r} has a full queue", retry_after_s=1.0)
    return NoEngine(f"model {model!r} is not available now ({excluded})", retry_after_s=1.0)


def _shed(numbers: Numbers, excluded: Sequence[object]) -> RouterError:
    """Those that could take it would begin too late: until the first of them has worked off what is too much."""
    limit_s = _number(numbers.record().settings["shed_ttft_s"])
    waits_s = [_number(wait) for wait, rule in zip(numbers.column("wait_s"), excluded, strict=True) if rule == "shed"]
    least_s = min(waits_s)
    why = f"the objective is a first token within {limit_s:g} s, and every model that could answer is predicted to take"
    return Overloaded(
        f"{why} {least_s:.3g} s at the least", code="slo_shed", retry_after_s=max(least_s - limit_s, 0.05)
    )


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float | str) else 0.0


def _all_refused(models: Sequence[str], excluded: Sequence[object]) -> RouterError:
    """What may pass (a full queue, an engine that starts) comes first."""
    why = ", ".join(f"{model}: {rule}" for model, rule in zip(models, excluded, strict=True))
    rules = set(excluded)
    if "queue_full" in rules:
        return Overloaded(f"every model that could take this request has a full queue ({why})", retry_after_s=1.0)
    if "not_ready" in rules or "tried" in rules:
        return NoEngine(f"no model of the pool can take this request now ({why})", retry_after_s=1.0)
    if "context" in rules:
        return ContextTooLong(f"the prompt is longer than the context of any model that could answer ({why})")
    return BadRequest(f"no model of the pool can do what this request asks ({why})", code="unsupported")
