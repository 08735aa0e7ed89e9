"""The transitions of a request's life (docs/decisions/006-one-life.md) that a request took, by what is seen of it."""

from typing import Literal

from router.observe.record import Record
from tests.storm.clients import Seen

Moment = Literal["open", "draining", "stopping"]

#: All of the drawing, but the one that is for later.
ALL = frozenset({
    "read -> refused 400", "read -> refused 401", "read -> refused 404", "read -> refused 408", "read -> refused 413",
    "read -> refused 429",
    "read -> waiting for a slot", "waiting for a slot -> refused 429", "waiting for a slot -> admitted",
    "read -> admitted", "admitted -> scoring", "admitted -> decided", "scoring -> decided",
    "decided -> waiting", "decided -> failed: no member",
    "waiting -> answering", "waiting -> decided: retry", "waiting -> failed: leg",
    "answering -> finished", "answering -> failed: leg",
    "scoring -> failed: deadline", "scoring -> failed: shutdown",
    "waiting -> failed: deadline", "waiting -> failed: cut", "waiting -> failed: shutdown",
    "answering -> failed: deadline", "answering -> failed: cut", "answering -> failed: shutdown",
    "scoring -> cancelled", "waiting -> cancelled", "answering -> cancelled",
})  # fmt: skip


def taken(seen: Seen, record: Record | None, moment: Moment) -> set[str]:
    """`moment`: the server's when the record came."""
    if record is None:
        return {f"read -> refused {seen.status}"} if seen.how == "error" else set()
    arrows: set[str] = set()
    at = "read"
    if record.queue_s:
        at = "waiting for a slot"
        arrows.add(f"read -> {at}")
        if record.error == "rate_limit_error":
            return arrows | {f"{at} -> refused 429"}
    if seen.ask.large or record.legs:
        arrows |= {f"{at} -> admitted", f"admitted -> {'scoring' if seen.ask.large else 'decided'}"}
        at = "scoring"
    if record.legs:
        at = "waiting"
        arrows |= {"decided -> waiting"} | ({"scoring -> decided"} if seen.ask.large else set())
    if len(record.legs) > 1:
        arrows.add("waiting -> decided: retry")
    if record.streamed:
        at = "answering"
        arrows.add("waiting -> answering")
    return arrows | {_end(record, at, moment)}


def _end(record: Record, at: str, moment: Moment) -> str:
    if record.end == "finish":
        return f"{at} -> finished"
    if record.end == "cancel":
        return f"{at} -> cancelled"
    if record.error == "timeout_error":
        return f"{at} -> failed: deadline"
    if record.error == "service_unavailable" and moment == "draining":
        return f"{at} -> failed: cut"
    if record.error == "engine_error" and moment == "stopping":
        return f"{at} -> failed: shutdown"
    return f"{at} -> failed: leg" if record.legs else "decided -> failed: no member"
