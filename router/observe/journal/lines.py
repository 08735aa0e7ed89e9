"""The kinds of line, told apart by `type`, and what became of older ones.

    version  type
    -        decision   before the server wrote a journal: lines of programs beside it (docs/data.md)
    1        request    `observe.record.Record`
    any      feedback

Fields are appended; readers ignore those they do not know.
"""

from typing import Any

import msgspec

from router.observe.record import SCHEMA_VERSION, End, Record
from router.types import Turn

_STATUS: dict[str, int] = {"finish": 200, "error": 500, "cancel": 499}


class FeedbackLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="feedback"):
    """What a client said of an answer: a score, a preference, or both. Comes after its request's line, and may come
    again: the last score and the last preference count."""

    id: str  #: the decision's
    score: float | None = None  #: 0..1
    time_s: float = 0.0  #: seconds since the epoch
    #: Of two models, of which one gave the answer, the one that was or would have been better; empty: no preference.
    better: str = ""
    worse: str = ""
    tie: bool = False  #: the two were, or would have been, as good


Line = Record | FeedbackLine


class DecisionLine(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", tag="decision"):
    """A request in the first format."""

    id: str
    time_s: float = 0.0
    prompt: str | None = None
    group: str = ""
    task: str = ""
    model: str
    reason: str = ""
    status: End = "finish"
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float | None = None


class Unknown(ValueError):
    """A whole JSON object that is no line of ours: of another `type`, or of a later version than this reader's."""


def migrate(values: dict[str, Any]) -> Line:
    """A line of any version as one of today. Raises `Unknown`; `msgspec.ValidationError` where a field is wrong."""
    kind, version = values.get("type"), values.get("version", SCHEMA_VERSION)
    if kind == "decision":
        return _of_decision(msgspec.convert(values, DecisionLine))
    if kind not in ("request", "feedback"):
        raise Unknown(f"type: expected request, feedback or decision, got {str(kind)[:60]!r}")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise Unknown(f"version: expected at most {SCHEMA_VERSION}, got {version}: a later Headgate wrote it")
    line: Line = msgspec.convert(values, Line)
    return line


def _of_decision(line: DecisionLine) -> Record:
    """What the first format tells; the numbers of its decision are not enough to decide again, and are left."""
    return Record(
        version=SCHEMA_VERSION,
        id=line.id,
        request_id="",
        time_s=line.time_s,
        kind="chat",
        asked="",
        session_id=line.group,
        task=line.task,
        model=line.model,
        end=line.status,
        status=_STATUS[line.status],
        prompt_tokens=line.prompt_tokens,
        completion_tokens=line.completion_tokens,
        cost_usd=line.cost_usd,
        turns=None if line.prompt is None else (Turn("user", line.prompt),),
    )
