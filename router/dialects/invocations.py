"""SageMaker's one route for all: what a body asks for, by its fields and by what the models can do that it may mean, as
vLLM's server tells them apart."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from router.dialects.decode import AUTO
from router.dialects.parse import BOM
from router.errors import BadRequest
from router.types import Kind

_OF_INPUT: Final[tuple[Kind, ...]] = ("embeddings", "classify", "pooling")
#: The first of these fields that a body has tells what it asks for: the first of its kinds that can be done.
_TOLD_BY: Final[tuple[tuple[str, tuple[Kind, ...]], ...]] = (
    ("messages", ("chat", *_OF_INPUT)),
    ("prompt", ("completions",)),
    ("prompt_embeds", ("completions",)),
    ("input", _OF_INPUT),
    ("query", ("rerank",)),
    ("queries", ("score",)),
    ("data_1", ("score",)),
    ("text_1", ("score",)),
    ("data", ("pooling",)),
)
_Fields = msgspec.defstruct(
    "_Fields",
    [("model", object, None), *((name, msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for name, _ in _TOLD_BY)],
)
_fields = msgspec.json.Decoder(_Fields)
_NOBODY: Final[Mapping[str, AbstractSet[str]]] = {}


def kind_of(body: bytes, able: Mapping[str, AbstractSet[str]] = _NOBODY) -> Kind:
    """What `body` asks for, by what each name of a model can do. Of what is no JSON object `decode.read` says what is
    wrong with it. Raises `BadRequest`."""
    try:
        found = _fields.decode(body.removeprefix(BOM))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return "chat"
    model = getattr(found, "model", None)
    can = able.get(model if isinstance(model, str) else AUTO) or able.get(AUTO, frozenset())
    for field, kinds in _TOLD_BY:
        if getattr(found, field) is not msgspec.UNSET:
            return next((kind for kind in kinds if kind in can), kinds[0])
    expected = ", ".join(f"`{field}` ({kinds[0]})" for field, kinds in _TOLD_BY)
    raise BadRequest(f"the body does not tell what it asks for: expected one of {expected}")
