"""SageMaker's one route for all: chat or completions, by what the body holds, as vLLM's server tells them apart."""

from typing import Final

import msgspec

from router.dialects.parse import BOM
from router.errors import BadRequest
from router.types import Kind

#: The first of these fields that a body has tells what it asks for.
_TOLD_BY: Final[tuple[tuple[str, Kind], ...]] = (
    ("messages", "chat"),
    ("prompt", "completions"),
    ("prompt_embeds", "completions"),
)


class _Fields(msgspec.Struct):
    messages: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    prompt: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    prompt_embeds: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


_fields = msgspec.json.Decoder(_Fields)


def kind_of(body: bytes) -> Kind:
    """What `body` asks for. Of what is no JSON object `decode.read` says what is wrong with it. Raises `BadRequest`."""
    try:
        found = _fields.decode(body.removeprefix(BOM))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "chat"
    for field, kind in _TOLD_BY:
        if getattr(found, field) is not msgspec.UNSET:
            return kind
    expected = ", ".join(f"`{field}` ({kind})" for field, kind in _TOLD_BY)
    raise BadRequest(f"the body does not tell what it asks for: expected one of {expected}")
