"""The tokens that one answer of vLLM's API application took."""

from typing import Any

import msgspec

from router.types import Usage


class _Usage(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0


class _Billed(msgspec.Struct):
    input_tokens: int | None = None


class _Meta(msgspec.Struct):
    billed_units: _Billed | None = None


class _Whole(msgspec.Struct):
    usage: _Usage | None = None
    meta: _Meta | None = None  #: Cohere's place for it


_whole = msgspec.json.Decoder(_Whole)


def usage_of(state: dict[str, Any]) -> Usage | None:
    """What vLLM's serving classes leave for their own middleware."""
    usage = getattr(state.get("request_metadata"), "final_usage_info", None)
    if usage is None:
        return None
    details = getattr(usage, "prompt_tokens_details", None)
    return Usage(usage.prompt_tokens, usage.completion_tokens or 0, getattr(details, "cached_tokens", None) or 0)


def usage_in(body: bytes) -> Usage | None:
    try:
        whole = _whole.decode(body)
    except msgspec.DecodeError:
        return None
    if whole.meta is not None and whole.meta.billed_units is not None:
        return Usage(whole.meta.billed_units.input_tokens or 0)
    usage = whole.usage
    if usage is None:
        return None
    return Usage(usage.prompt_tokens or usage.input_tokens, usage.completion_tokens or usage.output_tokens)
