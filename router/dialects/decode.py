"""Body bytes -> `Query`, or a `BadRequest` that says what was expected, what came, and where.

The bytes themselves travel on untouched; the engine validates the fields that routing does not read.
"""

from collections.abc import Callable, Sequence
from secrets import token_hex

import msgspec

from router.dialects.bodies import (
    ABSENT,
    BatchBody,
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
    WholeBody,
)
from router.dialects.forms import read_travelling
from router.dialects.large import with_its_texts, with_texts
from router.dialects.lax import with_whole_parts
from router.dialects.parse import BOM, MANY_OBJECTS_BYTES, Cuts, Reader, parse, parse_ids
from router.errors import BadRequest
from router.native import large_body
from router.native.json_size import count_values
from router.types import MEMBER_ROUTES, PART_NEEDS, Kind, Query, Turn

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
#: Embeddings that are no JSON: they would reach a client without the header that explains them.
_NO_JSON = frozenset({"bytes", "bytes_only"})


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
    if kind not in _FORMS:
        body = body.removeprefix(BOM)
        if len(body) > _LARGE_BODY_BYTES and count_values(body) > MAX_VALUES:
            raise BadRequest(f"the body holds more than {MAX_VALUES} objects, lists, keys and values")
    found = _READERS[kind](body, ()) if len(body) <= MANY_OBJECTS_BYTES else _read_large(kind, body)
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
        any_length=found.any_length,
        request_id=request_id,
        key_id=key_id,
        received_s=received_s,
        response_id=found.response_id,
        own_id=found.own_id,
        background=found.background,
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
    any_length: bool = False
    response_id: str = ""
    own_id: str = ""
    background: bool = False


_CHAT = frozenset({"chat"})
_COMPLETIONS = frozenset({"completions"})
_RESPONSES = frozenset({"responses"})
_MESSAGES = frozenset({"messages"})
_BATCH = frozenset({"chat_batch"})
_NOTHING: frozenset[str] = frozenset()


def _read_large(kind: Kind, body: bytes) -> _Fields:
    """As the other readers, to the same values, without an object for each turn, text and token id."""
    if kind == "chat" and (plain := large_body.read_chat(body)) is not None:
        return _Fields(*plain)
    texts = None
    if kind != "detokenize" and kind not in _WHOLE:  # its texts are token ids, and those of the others are not read
        texts = large_body.take_texts(body, b"prompt", token_hex(8))
    if texts is None:
        return _READERS[kind](body, ())
    found = _READERS[kind](texts.json, (texts,))
    found.turns = with_texts(found.turns, texts)
    if found.model is not None:
        found.model = with_its_texts(texts)(found.model)
    if found.response_id or found.own_id:
        whole = with_its_texts(texts)
        found.response_id, found.own_id = whole(found.response_id), whole(found.own_id)
    return found


def _chat(body: bytes, cuts: Cuts) -> _Fields:
    read = parse(_chat_reader, body, cuts)
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
    needs, cut = _CHAT | seen if seen else _CHAT, _given(read.truncate_prompt_tokens)
    return _Fields(read.model, turns, read.stream, limit, read.n or 1, needs, any_length=cut)


def _completions(body: bytes, cuts: Cuts) -> _Fields:
    read, most_ids = parse_ids(_completions_reader, body, b"prompt", cuts)
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
    cut = _given(read.truncate_prompt_tokens)
    return _Fields(read.model, turns, read.stream, read.max_tokens, read.n or 1, needs, token_ids, cut)


def _responses(body: bytes, cuts: Cuts) -> _Fields:
    read = parse(_responses_reader, body, cuts)
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
    return _Fields(
        read.model,
        tuple(turns),
        read.stream,
        read.max_output_tokens,
        1,
        _RESPONSES | seen,
        any_length=bytes(read.truncation) == b'"auto"',
        response_id=read.previous_response_id or "",
        own_id=read.request_id or "",
        background=bool(read.background),
    )


def _messages(body: bytes, cuts: Cuts) -> _Fields:
    read = parse(_messages_reader, body, cuts)
    if read.model == "":  # as Anthropic's and vLLM's; none at all asks for `auto`
        raise BadRequest("`model` is empty; expected a name, or `auto`", param="model")
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
    read = parse(_tokenize_reader, body, cuts)
    seen: set[str] = set()
    if read.messages:
        turns = _turns(read.messages, seen)
    elif read.prompt is not None:
        turns = (Turn("user", read.prompt),)
    else:
        raise BadRequest("expected `prompt` or `messages`", param="prompt")
    return _Fields(read.model, turns, False, None, 1, _NOTHING | (seen & {BARE_TEXT}), any_length=True)


def _detokenize(body: bytes, cuts: Cuts) -> _Fields:
    read, most_ids = parse_ids(_detokenize_reader, body, b"tokens", cuts)
    return _Fields(read.model, (), False, None, 1, _NOTHING, max(len(read.tokens), most_ids, 1), True)


def _chat_batch(body: bytes, cuts: Cuts) -> _Fields:
    """One model answers all: the router sees the conversations as one."""
    read = parse(_batch_reader, body, cuts)
    if not read.messages:
        raise BadRequest("`messages` is empty; expected a list of conversations", param="messages")
    seen: set[str] = set()
    turns = tuple([turn for conversation in read.messages for turn in _turns(conversation, seen)])
    limit = read.max_tokens if read.max_completion_tokens is None else read.max_completion_tokens
    if limit is not None:
        _check_range(limit, "max_tokens", 1, MAX_TOKENS)
    # Their bare texts stay as they are: vLLM says what it makes of them.
    return _Fields(read.model, turns, False, limit, len(read.messages), _BATCH | (seen - {BARE_TEXT}))


def _whole(kind: Kind) -> Callable[[bytes, Cuts], _Fields]:
    streams, needs = MEMBER_ROUTES[kind].streams, frozenset({kind})

    def fields_of(body: bytes, cuts: Cuts) -> _Fields:
        read = parse(_whole_reader, body, cuts)
        if kind in ("embeddings", "pooling") and read.encoding_format in _NO_JSON:
            what = f"expected 'float' or 'base64', got {read.encoding_format!r}, which is not passed on"
            raise BadRequest(f"`encoding_format`: {what}", param="encoding_format")
        return _Fields(read.model, (), streams and read.stream, None, 1, needs, any_length=True)

    return fields_of


def _form(kind: Kind) -> Callable[[bytes, Cuts], _Fields]:
    needs = frozenset({kind})

    def fields_of(body: bytes, cuts: Cuts) -> _Fields:
        form = read_travelling(body)
        return _Fields(form.model, (), form.stream, None, 1, needs, any_length=True)

    return fields_of


def _turns(messages: list[Message], seen: set[str]) -> tuple[Turn, ...]:
    if not messages:
        raise BadRequest("`messages` is empty; expected at least one message", param="messages")
    return tuple([Turn(m.role, c if isinstance(c := m.content, str) else _text(c, seen)) for m in messages])


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
        # The first sentence is vLLM's: programs look for it.
        what = "Either prompt or prompt_embeds must be provided and non-empty. `prompt` is missing or empty; expected"
        raise BadRequest(f"{what} a text, token ids, or a list of either", param="prompt")
    if isinstance(prompt, str):
        return prompt, 0
    texts = [item for item in prompt if type(item) is str]
    lists = [len(item) for item in prompt if type(item) is list]
    single = len(prompt) - len(texts) - len(lists)
    return "\n".join(texts), max(single, max(lists, default=0), 0 if len(texts) == len(prompt) else 1)


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


_chat_reader = Reader(ChatBody)
_completions_reader = Reader(CompletionsBody)
_responses_reader = Reader(ResponsesBody)
_messages_reader = Reader(MessagesBody)
_tokenize_reader = Reader(TokenizeBody)
_detokenize_reader = Reader(DetokenizeBody)
_batch_reader = Reader(BatchBody)
_whole_reader = Reader(WholeBody)
_WHOLE = frozenset(kind for kind, route in MEMBER_ROUTES.items() if not route.decided)
_FORMS = frozenset(kind for kind, route in MEMBER_ROUTES.items() if route.body == "form")

_READERS: dict[Kind, Callable[[bytes, Cuts], _Fields]] = {
    "chat": _chat,
    "completions": _completions,
    "responses": _responses,
    "messages": _messages,
    "count_tokens": _count_tokens,
    "tokenize": _tokenize,
    "detokenize": _detokenize,
    "chat_batch": _chat_batch,
    **{kind: _form(kind) if kind in _FORMS else _whole(kind) for kind in _WHOLE},
}
