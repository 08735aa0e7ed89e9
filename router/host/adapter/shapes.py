"""Reads from vLLM's response models which fields of an answer are always present but empty, so that the fast way sends
the same fields in every vLLM version."""

import logging
from collections.abc import Mapping
from typing import Any

import msgspec

from router.errors import ConfigError
from router.host.adapter import vllm_modules
from router.host.sse import Shape

logger = logging.getLogger("headgate.host")

#: What the fast way writes itself.
_WRITTEN = frozenset(
    {"id", "object", "created", "model", "choices", "system_fingerprint", "usage"}
    | {"index", "message", "text", "logprobs", "finish_reason", "stop_reason", "role", "content"}
    | {"prompt_tokens", "total_tokens", "completion_tokens", "cached_tokens"}
)
#: What vLLM sets to null in the events of a stream, where only what was set is sent.
_ROLE = ("prompt_token_ids", "prompt_text")
_CHAT_CHOICE = ("token_ids",)
_COMPLETION_CHOICE = ("prompt_token_ids", "token_ids")
_CREATED = "created_cache_tokens"


def shapes_of(chat: Any, cached_details: bool) -> Mapping[str, Shape]:
    """By kind of request. `chat` is vLLM's serving class for it; `cached_details`: usage tells of cached tokens."""
    try:
        return {"chat": _chat(chat, cached_details), "completions": _completions(cached_details)}
    except (AttributeError, ConfigError, KeyError, TypeError, ValueError) as error:
        logger.warning("answers of the fast way leave out vLLM's empty fields: %s: %s", type(error).__name__, error)
        return {"chat": Shape(), "completions": Shape()}


def _chat(serving: Any, cached_details: bool) -> Shape:
    """Of answers without tools."""
    protocol = _protocol("chat_completion")
    usage = _usage_model()(prompt_tokens=1, total_tokens=2, completion_tokens=1)
    message = protocol.ChatMessage(role="assistant", content="")
    choice = protocol.ChatCompletionResponseChoice(index=0, message=message)
    answer = protocol.ChatCompletionResponse(model="", choices=[choice], usage=usage).model_dump()
    streamed = protocol.ChatCompletionResponseStreamChoice.model_fields
    return Shape(
        message=_empty(answer["choices"][0]["message"]),
        role=_nulls(_ROLE, protocol.ChatCompletionStreamResponse.model_fields),
        text=_nulls(_CHAT_CHOICE, streamed),
        finish=_nulls(_CHAT_CHOICE, streamed),
        event_usage=_nulls(("completion_tokens_details",), type(usage).model_fields),
        # A parser, of tools say, has nothing to tell of no text.
        empty_delta=b'"content":""' if getattr(serving, "parser_cls", None) is None else b"",
        **_whole(answer, cached_details, tells_created=True),
    )


def _completions(cached_details: bool) -> Shape:
    protocol = _protocol("completion")
    usage = _usage_model()(prompt_tokens=1, total_tokens=2, completion_tokens=1)
    choice = protocol.CompletionResponseChoice(index=0, text="")
    answer = protocol.CompletionResponse(model="", choices=[choice], usage=usage).model_dump()
    streamed = protocol.CompletionResponseStreamChoice.model_fields
    finish = _nulls(_COMPLETION_CHOICE, streamed)
    return Shape(text=b',"stop_reason":null' + finish, finish=finish, **_whole(answer, cached_details))


def _whole(answer: dict[str, Any], cached_details: bool, *, tells_created: bool = False) -> dict[str, Any]:
    """`tells_created`: where this vLLM counts tokens written to the prefix cache, these answers tell of them."""
    usage = answer["usage"]
    details: dict[str, Any] = {}
    created = False
    if cached_details:
        usage.pop("prompt_tokens_details", None)  # written, with what it says
        model = getattr(vllm_modules.find(*_USAGE), "PromptTokenUsageInfo", None)
        details = {} if model is None else model(cached_tokens=0).model_dump()
        created = tells_created and details.pop(_CREATED, "") is None
    return {
        "answer": _empty(answer),
        "choice": _empty(answer["choices"][0]),
        "usage": _empty(usage),
        "details": _empty(details),
        "tells_created": created,
    }


_USAGE = ("vllm.entrypoints.serve.engine.protocol", "vllm.entrypoints.openai.engine.protocol")


def _usage_model() -> Any:
    return vllm_modules.find(*_USAGE).UsageInfo


def _protocol(name: str) -> Any:
    return vllm_modules.find(f"vllm.entrypoints.openai.{name}.protocol", "vllm.entrypoints.openai.protocol")


def _empty(fields: dict[str, Any]) -> bytes:
    """Every field that the fast way does not write, as it is in an answer that has nothing to say of it."""
    return b"".join(
        b",%b:%b" % (msgspec.json.encode(name), msgspec.json.encode(value))
        for name, value in fields.items()
        if name not in _WRITTEN
    )


def _nulls(names: tuple[str, ...], known: Any) -> bytes:
    """Those of `names` that this version of vLLM has."""
    return _empty({name: None for name in names if name in known})
