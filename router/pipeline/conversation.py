"""What library callers hand in, as a query: a text, or OpenAI's messages. Reads only what routing reads."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from router.errors import BadRequest
from router.types import PART_NEEDS, Query, Turn

#: Messages as OpenAI's chat API takes them: `{"role": ..., "content": text or parts}`.
Message: TypeAlias = Mapping[str, Any]
Conversation: TypeAlias = Sequence[Message]


def query_of(
    what: str | Conversation,
    *,
    model: str,
    max_tokens: int | None = None,
    stream: bool = False,
    choices: int = 1,
    parameters: Mapping[str, Any] | None = None,
    deadline_s: float | None = None,
) -> Query:
    """Raises `BadRequest` where a message is none."""
    messages: Conversation = [{"role": "user", "content": what}] if isinstance(what, str) else what
    needs = {"chat"} | _needs(parameters or {})
    turns = tuple([_turn(message, i, needs) for i, message in enumerate(messages)])
    if not turns:
        raise BadRequest("`messages`: expected at least one message", param="messages")
    return Query(
        kind="chat",
        model=model,
        turns=turns,
        stream=stream,
        max_tokens=max_tokens,
        choices=choices,
        needs=frozenset(needs),
        deadline_s=deadline_s,
    )


def _turn(message: Message, index: int, needs: set[str]) -> Turn:
    try:
        role, content = message["role"], message.get("content")
    except (KeyError, TypeError, AttributeError):
        raise BadRequest("expected a message: role and content", param=f"messages[{index}]") from None
    if content is None or isinstance(content, str):
        return Turn(str(role), content or "")
    texts: list[str] = []
    for part in content:
        if isinstance(part, str):
            texts.append(part)
            continue
        texts.append(str(part.get("text") or ""))
        need = PART_NEEDS.get(part.get("type", "text"))
        if need is not None:
            needs.add(need)
    return Turn(str(role), "\n".join(filter(None, texts)))


def _needs(parameters: Mapping[str, Any]) -> set[str]:
    needs: set[str] = set()
    if parameters.get("tools") or parameters.get("functions"):
        needs.add("tools")
    format = parameters.get("response_format")
    if (isinstance(format, Mapping) and format.get("type", "text") != "text") or parameters.get("structured_outputs"):
        needs.add("structured")
    if parameters.get("logprobs"):
        needs.add("logprobs")
    return needs
