"""The transitions of a request's life, as docs/design.md draws them, that a request took, by what is seen of it."""

from itertools import pairwise
from typing import Literal

from router.observe.record import Record
from tests.storm.clients import Seen

Moment = Literal["open", "draining", "stopping"]

#: What a record or an answer can show of the drawing, but for three moments too short to be met in every few storms:
#: a deadline in the queue, a large body's turn, a stop while it is scored. A drain's end and a stop are told apart.
ALL = frozenset({
    "refused 400", "refused 401", "refused 404", "refused 408", "refused 413", "refused 429", "refused 503",
    "new -> queued", "new -> scoring", "new -> waiting", "queued -> waiting", "scoring -> waiting",
    "waiting -> waiting", "waiting -> answering", "answering -> finished",
    "queued -> failed: waited too long", "queued -> failed: shutdown",
    "scoring -> failed: no member", "scoring -> failed: deadline",
    "waiting -> failed: leg", "waiting -> failed: deadline", "waiting -> failed: drain", "waiting -> failed: shutdown",
    "answering -> failed: leg", "answering -> failed: deadline", "answering -> failed: drain",
    "answering -> failed: shutdown",
    "queued -> cancelled", "scoring -> cancelled", "waiting -> cancelled", "answering -> cancelled",
})  # fmt: skip


def taken(seen: Seen, record: Record | None, moment: Moment) -> set[str]:
    """`moment`: the server's when the record came."""
    if record is None:
        return {f"refused {seen.status}"} if seen.how == "error" else set()
    states = _states(seen, record)
    arrows = {f"{one} -> {other}" for one, other in pairwise(states)}
    if seen.ask.large and record.queue_s and not record.legs:
        return arrows  # queued, or being scored since: nothing tells
    return arrows | {f"{states[-1]} -> {_end(record, states[-1], moment)}"}


def _states(seen: Seen, record: Record) -> list[str]:
    """That it was in, in order, but for its end."""
    states = ["new"]
    if record.queue_s:
        states.append("queued")
    if seen.ask.large and (record.legs or not record.queue_s):
        states.append("scoring")
    states += ["waiting"] * len(record.legs)
    if record.streamed:
        states.append("answering")
    return states


def _end(record: Record, at: str, moment: Moment) -> str:
    if record.end == "finish":
        return "finished"
    if record.end == "cancel":
        return "cancelled"
    if record.error == "timeout_error":
        return "failed: deadline"
    if at == "queued" and record.error == "rate_limit_error":
        return "failed: waited too long"
    if record.error == "service_unavailable" and moment == "draining":
        return "failed: drain"
    if record.error == "engine_error" and moment == "stopping":
        return "failed: shutdown"
    return "failed: leg" if record.legs else "failed: no member"
