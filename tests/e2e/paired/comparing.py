"""Two answers to one request: what differs, less what differs from one request to the next anyway (ids, times) and how
the tokens of a stream are cut into events."""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from tests.e2e.paired.asking import Answer
from tests.e2e.paired.cases import ABSENT, Case

_TIMES = frozenset({"created", "created_at", "completed_at"})
_IDS = frozenset({"id", "item_id", "call_id", "tool_call_id", "response_id", "request_id"})
#: What the prefix cache holds depends on what was asked before.
_CACHED = frozenset({"cached_tokens", "created_cache_tokens", "cache_write_tokens", "cache_creation_input_tokens"})
#: What an id begins with says what it is of; the rest is anyone's choice.
_PREFIX = re.compile(r"[a-z]+[-_](?:tool-)?")


@dataclass(frozen=True)
class Difference:
    """`path` as in `error.code`; what stands there on vLLM's server and on ours, `ABSENT` where nothing does."""

    path: str
    theirs: Any
    ours: Any

    def __str__(self) -> str:
        theirs, ours = ("absent" if value is ABSENT else repr(value)[:300] for value in (self.theirs, self.ours))
        return f"{self.path}: vLLM {theirs}, Headgate {ours}"


def differences(theirs: Answer, ours: Answer) -> list[Difference]:
    return list(_differences("", _comparable(theirs), _comparable(ours)))


def broken_promises(case: Case, answer: Answer) -> list[str]:
    """Of what the documents promise of this answer, what it does not hold."""
    broken = []
    for path, wanted in case.holds.items():
        found = answer.status if path == "status" else _at(answer.body, path.removeprefix("body."))
        if not _is(found, wanted):
            broken.append(f"{path}: {'absent' if found is ABSENT else repr(found)[:200]}")
    return broken


def _is(found: Any, wanted: Any) -> bool:
    if wanted is ABSENT:
        return found is ABSENT
    if isinstance(wanted, type):
        return isinstance(found, wanted)
    if callable(wanted):
        return found is not ABSENT and bool(wanted(found))
    return bool(found == wanted)


def _at(value: Any, path: str) -> Any:
    for step in path.split("."):
        if isinstance(value, list) and re.fullmatch(r"-?\d+", step):
            at = int(step)
            value = value[at] if -len(value) <= at < len(value) else ABSENT
        elif isinstance(value, dict):
            value = value.get(step, ABSENT)
        else:
            return ABSENT
    return value


def _comparable(answer: Answer) -> dict[str, Any]:
    body = _bare(answer.body)
    if isinstance(body, dict) and "events" in body and "done" in body:
        body = {**body, "events": _joined(body["events"]), "names": _once(body["names"])}
    return {"status": answer.status, "headers": dict(answer.headers), "body": body}


def _bare(value: Any) -> Any:
    if isinstance(value, list):
        return [_bare(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {key: _masked(key, item) for key, item in value.items() if key != "sequence_number"}


def _masked(key: str, value: Any) -> Any:
    if key in _TIMES and type(value) in (int, float):
        return f"a time, {type(value).__name__}"
    if key in (*_CACHED, "cache_read_input_tokens") and type(value) is int:
        return "a count"
    if key in _IDS and isinstance(value, str):
        match = _PREFIX.match(value)
        return f"{match[0]}..." if match else "an id"
    return _bare(value)


def _once(names: list[Any]) -> list[Any]:
    """Without repetitions: how many events hold a text's tokens is a matter of time."""
    return [name for i, name in enumerate(names) if not i or name != names[i - 1]]


def _joined(events: list[Any]) -> list[Any]:
    """Events that differ in their texts and tokens only become one, as if they had been read later. One that says
    nothing is left out: vLLM sends some while it holds text back. Choices of one stream take turns as they please."""
    joined: list[Any] = []
    for event in sorted(filter(_says, events), key=_turn):
        if joined and (both := _join(joined[-1], event)) is not None:
            joined[-1] = both
        else:
            joined.append(event)
    return joined


def _says(event: Any) -> bool:
    choices = event.get("choices") if isinstance(event, dict) else None
    if not choices or choices[0].get("finish_reason"):
        return True
    said = choices[0].get("delta", choices[0].get("text"))
    told = (choices[0].get(field) for field in ("logprobs", "token_ids", "prompt_token_ids"))
    return said not in ("", {}, {"content": ""}) or any(value is not None for value in told)


def _turn(event: Any) -> int:
    choices = event.get("choices") if isinstance(event, dict) else None
    if choices is None:
        return 0
    return int(choices[0]["index"]) if choices else 1_000


#: Where a piece of the answer stands, by the route's events.
_PIECES = ("text", "content", "delta", "arguments", "partial_json", "token_ids", "logprobs", "tokens")
_PIECES_OF_LOGPROBS = ("token_logprobs", "top_logprobs", "text_offset", "tokens", "content")


def _join(first: Any, second: Any) -> Any | None:
    """One event of two that have the same fields; None where they say different things."""
    if not isinstance(first, dict) or not isinstance(second, dict) or "error" in second:
        return None
    if "choices" in first and "choices" in second:
        return _join_choices(first, second)
    kind = first.get("type")
    if kind != second.get("type") or not isinstance(kind, str) or "delta" not in kind or kind == "message_delta":
        return None
    return _added(first, second)


def _join_choices(first: dict[str, Any], second: dict[str, Any]) -> Any | None:
    if not first["choices"] or not second["choices"]:
        return None
    (one,), (two,) = first["choices"], second["choices"]
    if one["index"] != two["index"] or one.get("finish_reason") or "role" in (one.get("delta") or {}):
        return None
    if two.get("finish_reason") or first.keys() != second.keys() or one.keys() != two.keys():
        return None
    return _added(first, second)


def _added(one: Any, two: Any) -> Any | None:
    """`one` with the texts and lists of `two` behind its own."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        sums: dict[str, Any] = {}
        for key in one:
            if one[key] == two[key] and key not in _PIECES:
                sums[key] = one[key]
            elif key == "usage":
                sums[key] = two[key]  # the newest counts
            else:
                sums[key] = _added(one[key], two[key])
                if sums[key] is None and not (one[key] is None and two[key] is None):
                    return None
        return sums
    if isinstance(one, str) and isinstance(two, str):
        return one + two
    if isinstance(one, list) and isinstance(two, list):
        if len(one) == len(two) == 1 and isinstance(one[0], dict) and "index" in one[0]:
            both = _added(one[0], two[0])
            return None if both is None else [both]
        return one + two
    return one if one == two else None


def _differences(path: str, theirs: Any, ours: Any) -> Iterator[Difference]:
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        for key in dict.fromkeys((*theirs, *ours)):
            yield from _differences(
                f"{path}.{key}" if path else str(key), theirs.get(key, ABSENT), ours.get(key, ABSENT)
            )
    elif isinstance(theirs, list) and isinstance(ours, list) and len(theirs) == len(ours):
        for i, (one, other) in enumerate(zip(theirs, ours, strict=True)):
            yield from _differences(f"{path}.{i}", one, other)
    elif type(theirs) is float and type(ours) is float:
        if not math.isclose(theirs, ours, rel_tol=1e-2, abs_tol=1e-3):
            yield Difference(path, theirs, ours)
    elif theirs is not ours and (type(theirs) is not type(ours) or theirs != ours):
        yield Difference(path, theirs, ours)
