"""A text that engines made so far, as the next one needs it, and the usage of an answer that several made."""

from collections.abc import Sequence

import msgspec

from router.ipc.messages import Done
from router.pipeline.leg import Leg
from router.pipeline.legs.base import Asked
from router.pipeline.legs.told import continued_from, stream_told
from router.types import Usage
from router.watched import Continued


class Part(msgspec.Struct, frozen=True):
    """`text`: of all engines; `continued`: what the client knows of it."""

    text: str
    continued: Continued


def spent(legs: Sequence[Leg], but: Leg) -> dict[str, int]:
    """Completion tokens by model, of legs other than `but` that have ended."""
    tokens: dict[str, int] = {}
    for leg in legs:
        if leg is not but and leg.usage is not None and leg.usage.completion_tokens:
            tokens[leg.decision.model] = tokens.get(leg.decision.model, 0) + leg.usage.completion_tokens
    return tokens


def with_dropped(continued: Continued, legs: Sequence[Leg]) -> Continued:
    """With the drafts that were dropped, of which the text's engines did not know: the usage tells of them too."""
    drafts = tuple(
        [(leg.decision.model, leg.usage.completion_tokens) for leg in legs if leg.dropped and leg.usage is not None]
    )
    if continued.wrote[: len(drafts)] == drafts:
        return continued
    return msgspec.structs.replace(continued, wrote=(*drafts, *continued.wrote))


def told_part(request: Asked, before: Part | None) -> Part | None:
    """All that another engine is to go on with, where `before` is what the present one went on with. None where that
    cannot be said, or nothing is left to be made."""
    if not request.stream or not request.started:
        return before
    data = request.kept
    told = None if data is None else stream_told(request.query.kind, data)
    if told is None or told.finished or not told.plain or not told.text:
        return None
    if before is not None and len(told.text) <= before.continued.sent:
        return before
    known = Continued() if before is None else before.continued
    continued = continued_from(told, known)
    made = request.legs[-1].decision.model, continued.completion_tokens - known.completion_tokens
    wrote = msgspec.structs.replace(continued, wrote=(*known.wrote, made), told=request.query.marked)
    return Part(told.text, with_dropped(wrote, request.legs))


def as_told(done: Done, part: Part | None) -> Done:
    """With the client's usage: one prompt, all tokens of what it was told. `done` counts the part as prompt."""
    if part is None:
        return done
    known, own = part.continued, done.usage
    prompt = known.prompt_tokens or max(own.prompt_tokens - known.completion_tokens, 0)
    cached = known.cached_tokens if known.prompt_tokens else min(own.cached_tokens, prompt)
    usage = Usage(prompt, known.completion_tokens + own.completion_tokens, cached)
    return msgspec.structs.replace(done, usage=usage)
