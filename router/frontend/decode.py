"""Body bytes -> `Query`, or a `BadRequest` that says what was expected, what came, and where.

The bytes themselves travel on untouched; the engine validates the fields that routing does not read.
"""

import re
from collections.abc import Callable
from typing import TypeVar

import msgspec

from router.config import RESERVED_NAMES
from router.errors import BadRequest
from router.frontend.bodies import (
    ABSENT,
    ChatBody,
    CompletionsBody,
    DetokenizeBody,
    FormatType,
    Message,
    MessagesBody,
    Parts,
    ResponsesBody,
    TokenizeBody,
)
from router.types import PART_NEEDS, Kind, Query, Turn

AUTO = "auto"
#: Engines keep token counts in 32 bits; larger numbers are a client's bug, said so before they overflow a float.
MAX_TOKENS = 2**31 - 1
MAX_CHOICES = 1_024
MAX_MODEL_CHARACTERS = 1_024
#: An object of two bytes takes fifty when decoded: bodies of nothing else would take gigabytes.
MAX_CONTAINERS = 1_000_000
_LARGE_BODY_BYTES = 1 << 20

_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_MISSING = re.compile(r"^Object missing required field `([^`]+)`")

T = TypeVar("T")


def decode(kind: Kind, body: bytes, request_id: str = "", key_id: str = "") -> Query:
    """The query in `body`. Raises `BadRequest` with the path of the offending field as `param`."""
    if len(body) > _LARGE_BODY_BYTES:
        _check_containers(body)
    model, turns, stream, max_tokens, choices, needs = _READERS[kind](body)
    if model is not None and len(model) > MAX_MODEL_CHARACTERS:
        raise BadRequest(f"`model`: expected at most {MAX_MODEL_CHARACTERS} characters", param="model")
    return Query(
        kind=kind,
        model=model or AUTO,
        turns=turns,
        stream=bool(stream),
        max_tokens=max_tokens,
        choices=choices,
        needs=needs,
        request_id=request_id,
        key_id=key_id,
    )


_Fields = tuple[str | None, tuple[Turn, ...], bool | None, int | None, int, frozenset[str]]
_CHAT = frozenset({"chat"})
_COMPLETIONS = frozenset({"completions"})
_RESPONSES = frozenset({"responses"})
_MESSAGES = frozenset({"messages"})
_NOTHING: frozenset[str] = frozenset()


def _chat(body: bytes) -> _Fields:
    read = _parse(_chat_decoder, body)
    seen: set[str] = set()
    turns = _turns(read.messages, seen)
    if read.tools is not ABSENT or read.functions is not ABSENT:
        if _given(read.tools) or _given(read.functions):
            seen.add("tools")
    if read.response_format is not None or read.structured_outputs is not ABSENT:
        if _structured(read.response_format) or _given(read.structured_outputs):
            seen.add("structured")
    if read.logprobs:
        seen.add("logprobs")
    limit, param = read.max_completion_tokens, "max_completion_tokens"
    if limit is None:
        limit, param = read.max_tokens, "max_tokens"
    if limit is not None:
        _check_range(limit, param, 1, MAX_TOKENS)
    if read.n is not None:
        _check_range(read.n, "n", 1, MAX_CHOICES)
    return read.model, turns, read.stream, limit, read.n or 1, _CHAT | seen if seen else _CHAT


def _completions(body: bytes) -> _Fields:
    read = _parse(_completions_decoder, body)
    seen: set[str] = set()
    if _structured(read.response_format) or _given(read.structured_outputs):
        seen.add("structured")
    if read.logprobs is not None:
        seen.add("logprobs")
    text = "" if _given(read.prompt_embeds) and not read.prompt else _prompt_text(read.prompt, read.model)
    turns = (Turn("user", text),)
    if read.max_tokens is not None:
        _check_range(read.max_tokens, "max_tokens", 0, MAX_TOKENS)  # 0 with `echo` scores a prompt
    if read.n is not None:
        _check_range(read.n, "n", 1, MAX_CHOICES)
    return read.model, turns, read.stream, read.max_tokens, read.n or 1, _COMPLETIONS | seen


def _responses(body: bytes) -> _Fields:
    read = _parse(_responses_decoder, body)
    if read.input is None or read.input == []:
        raise BadRequest("`input` is missing or empty; expected a text or a list of items", param="input")
    seen: set[str] = set()
    turns = [Turn("system", read.instructions)] if read.instructions else []
    if isinstance(read.input, str):
        turns.append(Turn("user", read.input))
    else:
        for item in read.input:
            content = item.content if item.content is not None else item.output
            turns.append(Turn(item.role or ("tool" if item.output is not None else "assistant"), _text(content, seen)))
    if _given(read.tools):
        seen.add("tools")
    if read.text is not None and _structured(read.text.format):
        seen.add("structured")
    if read.max_output_tokens is not None:
        _check_range(read.max_output_tokens, "max_output_tokens", 1, MAX_TOKENS)
    return read.model, tuple(turns), read.stream, read.max_output_tokens, 1, _RESPONSES | seen


def _messages(body: bytes) -> _Fields:
    read = _parse(_messages_decoder, body)
    seen: set[str] = set()
    turns = _turns(read.messages, seen)
    if read.system:
        turns = (Turn("system", _text(read.system, seen)), *turns)
    if _given(read.tools):
        seen.add("tools")
    if read.max_tokens is not None:
        _check_range(read.max_tokens, "max_tokens", 1, MAX_TOKENS)
    return read.model, turns, read.stream, read.max_tokens, 1, _MESSAGES | seen


def _tokenize(body: bytes) -> _Fields:
    read = _parse(_tokenize_decoder, body)
    if read.messages:
        turns = _turns(read.messages, set())
    elif read.prompt is not None:
        turns = (Turn("user", read.prompt),)
    else:
        raise BadRequest("expected `prompt` or `messages`", param="prompt")
    return read.model, turns, False, None, 1, _NOTHING


def _detokenize(body: bytes) -> _Fields:
    read = _parse(_detokenize_decoder, body)
    _one_vocabulary(read.model, "tokens")
    return read.model, (), False, None, 1, _NOTHING


def _turns(messages: list[Message], seen: set[str]) -> tuple[Turn, ...]:
    if not messages:
        raise BadRequest("`messages` is empty; expected at least one message", param="messages")
    return tuple(
        [
            Turn(message.role, content if isinstance(content := message.content, str) else _text(content, seen))
            for message in messages
        ]
    )


def _text(content: Parts, seen: set[str]) -> str:
    """The text of a message's content; what else it holds is noted in `seen`."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    _collect(content, texts, seen)
    return "\n".join(texts)


def _collect(content: Parts, texts: list[str], seen: set[str]) -> None:
    # Joined once by the caller: joining at each level would copy a text as often as it is nested.
    for part in content if isinstance(content, list) else ():
        if isinstance(part, str):
            texts.append(part)
        elif part.text is not None:
            texts.append(part.text)
        elif isinstance(part.content, str):
            texts.append(part.content)
        elif part.content is not None:
            _collect(part.content, texts, seen)
        elif need := PART_NEEDS.get(part.type):
            seen.add(need)


def _prompt_text(prompt: str | list[str | int | list[int]] | None, model: str | None) -> str:
    if prompt is None or prompt == []:
        raise BadRequest(
            "`prompt` is missing or empty; expected a text, token ids, or a list of either", param="prompt"
        )
    if isinstance(prompt, str):
        return prompt
    texts = [item for item in prompt if isinstance(item, str)]
    if len(texts) < len(prompt):
        _one_vocabulary(model, "prompt")
    return "\n".join(texts)


def _one_vocabulary(model: str | None, param: str) -> None:
    if not model or is_route(model):
        raise BadRequest(
            f"`{param}` holds token ids, which mean something in one model's vocabulary only: "
            "name that model in `model` instead of leaving the choice open",
            param=param,
        )


def is_route(model: str) -> bool:
    """Whether `model` leaves the choice to us instead of naming a member."""
    return model in RESERVED_NAMES or model.startswith("router-")


def _check_containers(body: bytes) -> None:
    """Counts braces in texts as well, which errs on the safe side by far."""
    if body.count(b"{") + body.count(b"[") > MAX_CONTAINERS:
        raise BadRequest(f"the body holds more than {MAX_CONTAINERS} objects and lists")


def _given(raw: msgspec.Raw) -> bool:
    return len(memoryview(raw)) > 0 and bytes(raw) not in (b"null", b"[]", b"{}")


def _structured(format: FormatType | None) -> bool:
    return format is not None and format.type != "text"


def _check_range(value: int, param: str, least: int, most: int) -> None:
    if not least <= value <= most:
        raise BadRequest(f"`{param}`: expected {least} to {most}, got {_short(value)}", param=param)


def _short(value: int) -> str:
    # Above some thousand digits Python refuses to print an integer at all.
    return str(value) if -(10**18) < value < 10**18 else "a number of more than 18 digits"


def _parse(decoder: "msgspec.json.Decoder[T]", body: bytes) -> T:
    try:
        if not body.isascii():
            body.decode()  # what msgspec skips it does not check, and the engine is sent all of it
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except msgspec.DecodeError as error:
        why = str(error).removeprefix("JSON is malformed: ")
        at = "" if "(byte" in why else f" (byte {len(body)})"
        what = why if body else "the body is empty"
        raise BadRequest(f"the body is not valid JSON: {what}{at}", code="invalid_json") from None
    except UnicodeDecodeError as error:
        raise BadRequest(f"the body is not valid UTF-8: {error.reason}", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None


def _explain(message: str) -> BadRequest:
    """msgspec's complaint as ours: the path becomes `param` and stands first."""
    at = _AT.search(message)
    path = at.group(1) if at else ""
    what = message[: at.start()] if at else message
    if missing := _MISSING.match(what):
        path = f"{path}.{missing.group(1)}" if path else missing.group(1)
        return BadRequest(f"`{path}` is missing", param=path)
    what = what[0].lower() + what[1:]
    return BadRequest(f"`{path}`: {what}" if path else f"the body: {what}", param=path or None)


def _decoder(body: type[T]) -> "msgspec.json.Decoder[T]":
    return msgspec.json.Decoder(body, strict=False)


_chat_decoder = _decoder(ChatBody)
_completions_decoder = _decoder(CompletionsBody)
_responses_decoder = _decoder(ResponsesBody)
_messages_decoder = _decoder(MessagesBody)
_tokenize_decoder = _decoder(TokenizeBody)
_detokenize_decoder = _decoder(DetokenizeBody)

_READERS: dict[Kind, Callable[[bytes], _Fields]] = {
    "chat": _chat,
    "completions": _completions,
    "responses": _responses,
    "messages": _messages,
    "tokenize": _tokenize,
    "detokenize": _detokenize,
}
