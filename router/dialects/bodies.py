"""The request fields that routing reads, a struct a route; every other field is skipped unread.

Knows the shapes of the OpenAI and Anthropic APIs and nothing of HTTP. Coercion follows pydantic's lax mode
(`"max_tokens": "16"`; what these structs do not take, `lax` spells anew), so that nothing which vLLM would answer is
refused here.
"""

from typing import TypeAlias

import msgspec

#: A field whose mere presence matters; empty when absent.
ABSENT = msgspec.Raw()


class Interruptible(msgspec.Struct, gc=False):
    """Objects of which a body may have a hundred thousand. Decoded in a thread, they let other threads run."""

    def __post_init__(self) -> None:
        """Called in Python, where the interpreter's lock is handed over. The rest of the decoder keeps it."""


class Part(Interruptible, gc=False):
    """A piece of a message's content: text, image, audio, a tool's result, ..."""

    type: str = "text"
    text: str | None = None
    content: "Parts" = None  #: of a tool's result


class Result(msgspec.Struct, gc=False):
    """A tool's result that is no text: an object of which nothing is read."""


#: What a message or a tool's result may hold.
Parts: TypeAlias = "str | list[Part | str] | Result | None"
Content: TypeAlias = str | list[Part | str] | None


class Message(Interruptible, gc=False):
    role: str
    content: Content = None


class Item(Interruptible, gc=False):
    """One input item of the Responses API: a message, a tool's call or its output."""

    type: str = "message"
    role: str = ""
    content: Content = None
    output: Parts = None


class FormatType(msgspec.Struct, gc=False):
    type: str = "text"


class TextSettings(msgspec.Struct, gc=False):
    format: FormatType | None = None


class ChatBody(msgspec.Struct):
    messages: list[Message]
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    n: int | None = None
    tools: msgspec.Raw = ABSENT
    functions: msgspec.Raw = ABSENT
    logprobs: bool | None = None
    response_format: FormatType | None = None
    structured_outputs: msgspec.Raw = ABSENT
    truncate_prompt_tokens: msgspec.Raw = ABSENT


#: Texts, token ids, or lists of either.
Prompt: TypeAlias = str | list[str | int | list[int]] | None


class CompletionsBody(msgspec.Struct):
    prompt: Prompt = None
    prompt_embeds: msgspec.Raw = ABSENT
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    n: int | None = None
    logprobs: int | None = None
    response_format: FormatType | None = None
    structured_outputs: msgspec.Raw = ABSENT
    truncate_prompt_tokens: msgspec.Raw = ABSENT


class ResponsesBody(msgspec.Struct):
    input: str | list[Item] | None = None
    instructions: str | None = None
    model: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    previous_response_id: str | None = None
    request_id: str | None = None  #: vLLM's: the id of the answer
    background: bool | None = None
    tools: msgspec.Raw = ABSENT
    text: TextSettings | None = None
    truncation: msgspec.Raw = ABSENT


class MessagesBody(msgspec.Struct):
    messages: list[Message]
    system: Content = None
    model: str | None = None
    stream: bool | None = None
    max_tokens: int | None = None
    tools: msgspec.Raw = ABSENT


class TokenizeBody(msgspec.Struct):
    prompt: str | None = None
    messages: list[Message] | None = None
    model: str | None = None


class DetokenizeBody(msgspec.Struct):
    tokens: list[int]
    model: str | None = None


class BatchBody(msgspec.Struct):
    """Conversations, each answered by a choice of its own."""

    messages: list[list[Message]]
    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None


class WholeBody(msgspec.Struct):
    """Of a route that a member's own server answers whole (`types.MEMBER_ROUTES`)."""

    model: str | None = None
    stream: bool | None = None
    encoding_format: str | None = None
