"""Body bytes -> `Query`, or a `BadRequest` that says what was expected, what came, and where.

The bytes themselves travel on untouched; the engine validates the fields that routing does not read.
"""

import re
from collections.abc import Callable, Sequence
from secrets import token_hex
from typing import Generic, TypeAlias, TypeVar, get_type_hints

import msgspec

from router.dialects.bodies import (
    ABSENT,
    ChatBody,
    CompletionsBody,
    DetokenizeBody,
    FormatType,
    Message,
    MessagesBody,
    Parts,
    Prompt,
    ResponsesBody,
    TokenizeBody,
)
from router.dialects.large import with_its_texts, with_texts
from router.dialects.lax import Reading, flag, half_pair, integer, raw_fields, respelled, token_ids, with_whole_parts
from router.errors import BadRequest
from router.native import large_body
from router.native.json_size import count_values
from router.types import PART_NEEDS, Kind, Query, Turn

AUTO = "auto"
#: Beside the needs that were seen: a message has a text where a part should be.
BARE_TEXT = "bare text"
#: Engines keep token counts in 32 bits; larger numbers are a client's bug, said so before they overflow a float.
MAX_TOKENS = 2**31 - 1
MAX_CHOICES = 1_024
MAX_MODEL_CHARACTERS = 1_024
#: Objects, lists, keys and values of a body. One of two bytes takes fifty when decoded: bodies of nothing else would
#: take gigabytes, and seconds in which no other request is served.
MAX_VALUES = 1 << 20
_LARGE_BODY_BYTES = 1 << 20
#: Above, turns, texts and ids are read natively: a decoder makes an object of each, and no stream moves meanwhile.
_MANY_OBJECTS_BYTES = 128 * 1024

_AT = re.compile(r" - at `\$\.?([^`]*)`$")
_ONE_CHARACTER = 8  #: bytes that tell why a character is malformed

_BYTE = re.compile(r" \(byte (\d+)\)$")
_MISSING = re.compile(r"^Object missing required field `([^`]+)`")

#: What PowerShell, editors and some .NET clients put before UTF-8 text; RFC 8259 lets a reader pass over it.
BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

T = TypeVar("T")
#: What was left out of a body before it is decoded: the last first.
Cuts: TypeAlias = tuple[large_body.Shortened, ...]


def decode(kind: Kind, body: bytes, request_id: str = "", key_id: str = "") -> Query:
    """The query in `body`. Raises `BadRequest` with the path of the offending field as `param`."""
    return read(kind, body, request_id, key_id)[0]


def read(
    kind: Kind, body: bytes, request_id: str = "", key_id: str = "", received_s: float = 0.0
) -> tuple[Query, bytes]:
    """The query in `body`, and `body` as it travels on. Raises `BadRequest`.

    A byte order mark is left out of it, and a bare text among a message's parts, which several clients send and vLLM
    refuses, becomes a part. All else is untouched.
    """
    body = body.removeprefix(BOM)
    if len(body) > _LARGE_BODY_BYTES:
        _check_values(body)
    found = _READERS[kind](body, ()) if len(body) <= _MANY_OBJECTS_BYTES else _read_large(kind, body)
    model = found.model
    if model is not None and len(model) > MAX_MODEL_CHARACTERS:
        raise BadRequest(f"`model`: expected at most {MAX_MODEL_CHARACTERS} characters", param="model")
    needs = found.needs
    if BARE_TEXT in needs:
        needs -= {BARE_TEXT}
        body = with_whole_parts(body)
    query = Query(
        kind=kind,
        model=model or AUTO,
        turns=found.turns,
        stream=bool(found.stream),
        max_tokens=found.max_tokens,
        choices=found.choices,
        needs=needs,
        token_ids=found.token_ids,
        request_id=request_id,
        key_id=key_id,
        received_s=received_s,
    )
    return query, body


class _Fields(msgspec.Struct, gc=False):
    """What a body says; `stream` and the like are None where it does not."""

    model: str | None
    turns: Sequence[Turn]
    stream: bool | None
    max_tokens: int | None
    choices: int
    needs: frozenset[str]
    token_ids: int = 0


_CHAT = frozenset({"chat"})
_COMPLETIONS = frozenset({"completions"})
_RESPONSES = frozenset({"responses"})
_MESSAGES = frozenset({"messages"})
_NOTHING: frozenset[str] = frozenset()


def _read_large(kind: Kind, body: bytes) -> _Fields:
    """As the other readers, to the same values, without an object for each turn, text and token id."""
    if kind == "chat" and (plain := large_body.read_chat(body)) is not None:
        return _Fields(*plain)
    texts = None
    if kind != "detokenize":  # whose texts are token ids
        texts = large_body.take_texts(body, b"prompt", token_hex(8))
    if texts is None:
        return _READERS[kind](body, ())
    found = _READERS[kind](texts.json, (texts,))
    found.turns = with_texts(found.turns, texts)
    if found.model is not None:
        found.model = with_its_texts(texts)(found.model)
    return found


def _chat(body: bytes, cuts: Cuts) -> _Fields:
    read = _parse(_chat_reader, body, cuts)
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
    return _Fields(read.model, turns, read.stream, limit, read.n or 1, _CHAT | seen if seen else _CHAT)


def _completions(body: bytes, cuts: Cuts) -> _Fields:
    read, most_ids = _parse_ids(_completions_reader, body, b"prompt", cuts)
    seen: set[str] = set()
    if read.response_format is not None or read.structured_outputs is not ABSENT:
        if _structured(read.response_format) or _given(read.structured_outputs):
            seen.add("structured")
    if read.logprobs is not None:
        seen.add("logprobs")
    text, token_ids = "", 0
    if read.prompt or not _given(read.prompt_embeds):
        text, token_ids = _prompt(read.prompt)
        token_ids = max(token_ids, most_ids)
    turns = (Turn("user", text),)
    if read.max_tokens is not None:
        _check_range(read.max_tokens, "max_tokens", 0, MAX_TOKENS)  # 0 with `echo` scores a prompt
    if read.n is not None:
        _check_range(read.n, "n", 1, MAX_CHOICES)
    needs = _COMPLETIONS | seen if seen else _COMPLETIONS
    return _Fields(read.model, turns, read.stream, read.max_tokens, read.n or 1, needs, token_ids)


def _responses(body: bytes, cuts: Cuts) -> _Fields:
    read = _parse(_responses_reader, body, cuts)
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
    seen.discard(BARE_TEXT)  # what a text is called here depends on who said it: the engine's to judge
    if _given(read.tools):
        seen.add("tools")
    if read.text is not None and _structured(read.text.format):
        seen.add("structured")
    if read.max_output_tokens is not None:
        _check_range(read.max_output_tokens, "max_output_tokens", 1, MAX_TOKENS)
    return _Fields(read.model, tuple(turns), read.stream, read.max_output_tokens, 1, _RESPONSES | seen)


def _messages(body: bytes, cuts: Cuts) -> _Fields:
    read = _parse(_messages_reader, body, cuts)
    seen: set[str] = set()
    turns = _turns(read.messages, seen)
    if read.system:
        turns = (Turn("system", _text(read.system, seen)), *turns)
    if _given(read.tools):
        seen.add("tools")
    if read.max_tokens is not None:
        _check_range(read.max_tokens, "max_tokens", 1, MAX_TOKENS)
    return _Fields(read.model, turns, read.stream, read.max_tokens, 1, _MESSAGES | seen)


def _count_tokens(body: bytes, cuts: Cuts) -> _Fields:
    """The body of a message that is not sent yet: no answer will be streamed, nor bounded."""
    read = _messages(body, cuts)
    return _Fields(read.model, read.turns, False, None, 1, read.needs)


def _tokenize(body: bytes, cuts: Cuts) -> _Fields:
    read = _parse(_tokenize_reader, body, cuts)
    seen: set[str] = set()
    if read.messages:
        turns = _turns(read.messages, seen)
    elif read.prompt is not None:
        turns = (Turn("user", read.prompt),)
    else:
        raise BadRequest("expected `prompt` or `messages`", param="prompt")
    return _Fields(read.model, turns, False, None, 1, _NOTHING | (seen & {BARE_TEXT}))


def _detokenize(body: bytes, cuts: Cuts) -> _Fields:
    read, most_ids = _parse_ids(_detokenize_reader, body, b"tokens", cuts)
    return _Fields(read.model, (), False, None, 1, _NOTHING, max(len(read.tokens), most_ids, 1))


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
            seen.add(BARE_TEXT)
        elif part.text is not None:
            texts.append(part.text)
        elif isinstance(part.content, str):
            texts.append(part.content)
        elif part.content is not None:
            _collect(part.content, texts, seen)
        elif need := PART_NEEDS.get(part.type):
            seen.add(need)


def _prompt(prompt: Prompt) -> tuple[str, int]:
    """The texts of a completion's prompts, and how many ids the longest has that is given in ids."""
    if prompt is None or prompt == []:
        raise BadRequest(
            "`prompt` is missing or empty; expected a text, token ids, or a list of either", param="prompt"
        )
    if isinstance(prompt, str):
        return prompt, 0
    texts = [item for item in prompt if type(item) is str]
    lists = [len(item) for item in prompt if type(item) is list]
    single = len(prompt) - len(texts) - len(lists)
    return "\n".join(texts), max(single, max(lists, default=0), 0 if len(texts) == len(prompt) else 1)


def _check_values(body: bytes) -> None:
    if count_values(body) > MAX_VALUES:
        raise BadRequest(f"the body holds more than {MAX_VALUES} objects, lists, keys and values")


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


class _Reader(Generic[T]):
    """Bytes to one kind of body."""

    def __init__(self, body: type[T]) -> None:
        self.decode = msgspec.json.Decoder(body, strict=False).decode
        hints = get_type_hints(body)
        self.readings = {name: _READINGS[hint] for name, hint in hints.items() if hint in _READINGS}
        self.raw = raw_fields(hints)


#: How values are read again, by their field's type, where the strict reading fails.
_READINGS: dict[object, Reading] = {
    bool | None: flag, int | None: integer, Prompt: token_ids, list[int]: token_ids
}  # fmt: skip


def _parse_ids(reader: _Reader[T], body: bytes, key: bytes, cuts: Cuts) -> tuple[T, int]:
    """With the length of the longest list of ids under `key` that was left out, 0 for none."""
    if len(body) <= _MANY_OBJECTS_BYTES or (short := large_body.shorten_ids(body, key)) is None:
        return _parse(reader, body, cuts), 0
    return _parse(reader, short.json, (short, *cuts)), short.most_ids


def _parse(reader: _Reader[T], body: bytes, cuts: Cuts) -> T:
    try:
        if not body.isascii():  # what msgspec skips it does not check, and the engine is sent all of it
            good = large_body.utf8_bytes(body)
            body[good : good + _ONE_CHARACTER].decode()
        try:
            return reader.decode(body)
        except msgspec.ValidationError:
            ids_bytes = max([cut.value_bytes for cut in cuts if isinstance(cut, large_body.TakenTexts)], default=0)
            return reader.decode(respelled(body, reader.raw, reader.readings, ids_bytes))
    except msgspec.ValidationError as error:
        raise _explain(str(error)) from None
    except msgspec.DecodeError as error:
        raise _malformed(str(error), body, cuts) from None
    except UnicodeDecodeError as error:
        why = "UTF-16" if body.startswith(_UTF16) else error.reason
        raise BadRequest(f"the body is not valid UTF-8: {why}", code="invalid_json") from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply", code="invalid_json") from None


def _malformed(error: str, body: bytes, cuts: Cuts) -> BadRequest:
    if b"\0" in body[:4]:
        return BadRequest("the body is not valid UTF-8: UTF-16 or UTF-32", code="invalid_json")
    why = error.removeprefix("JSON is malformed: ") if body else "the body is empty"
    byte = _BYTE.search(why)
    at = int(byte[1]) if byte else len(body)
    half = half_pair(body, at)
    if half is not None:
        what = body[half : half + 6].decode("ascii")
        why, at = f"half of a surrogate pair, {what}, stands alone", half
    elif byte:
        why = why[: byte.start()]
    for cut in cuts:
        at = cut.place_before(at)
    return BadRequest(f"the body is not valid JSON: {why} (byte {at})", code="invalid_json")


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


_chat_reader = _Reader(ChatBody)
_completions_reader = _Reader(CompletionsBody)
_responses_reader = _Reader(ResponsesBody)
_messages_reader = _Reader(MessagesBody)
_tokenize_reader = _Reader(TokenizeBody)
_detokenize_reader = _Reader(DetokenizeBody)

_READERS: dict[Kind, Callable[[bytes, Cuts], _Fields]] = {
    "chat": _chat,
    "completions": _completions,
    "responses": _responses,
    "messages": _messages,
    "count_tokens": _count_tokens,
    "tokenize": _tokenize,
    "detokenize": _detokenize,
}
