"""The request fields that the fast way supports, as strict structs. A request that does not decode takes the slow way.

An absent field and null both mean the engine's default, as with `vllm serve`. Knows nothing of rendering or sampling.
"""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec

from router.types import Kind

Int64 = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
#: vLLM refuses more than 4 stop texts, unless its environment allows another number.
StopTexts = Annotated[list[str], msgspec.Meta(max_length=4)]


class _Strict(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    pass


class TextPart(_Strict):
    text: str
    type: Literal["text"]


class ChatMessage(_Strict):
    """One turn of plain text. Tool calls, tool results and reasoning take the slow way."""

    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]
    name: str | msgspec.UnsetType = msgspec.UNSET  #: vLLM refuses null


class StreamOptions(_Strict):
    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _TextFormat(_Strict):
    type: Literal["text"]


class Sampled(_Strict, kw_only=True):
    """What chat and completions have in common. Fields that no engine acts on are accepted and dropped."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    repetition_penalty: float | None = None
    seed: Int64 | None = None
    stop: str | StopTexts | None = None
    stop_token_ids: list[int] | None = None
    include_stop_str_in_output: bool = False
    ignore_eos: bool = False
    min_tokens: int = 0
    max_tokens: int | None = None
    n: int | None = None
    logit_bias: dict[str, float] | None = None
    skip_special_tokens: bool = True
    spaces_between_special_tokens: bool = True
    priority: Int64 = 0
    response_format: _TextFormat | None = None
    user: str | None = None
    metadata: Any = None
    store: Any = None
    service_tier: Any = None
    safety_identifier: Any = None
    prompt_cache_key: Any = None

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and bool(self.stream_options.include_usage)

    @property
    def continuous_usage(self) -> bool:
        options = self.stream_options
        return options is not None and bool(options.include_usage and options.continuous_usage_stats)

    def plausible(self) -> bool:
        """Whether the values need no closer look. The slow way answers the rest with vLLM's own errors."""
        return (self.stream_options is None or bool(self.stream)) and (self.n is None or 1 <= self.n <= 1024)


class ChatBody(Sampled, kw_only=True):
    messages: Annotated[list[ChatMessage], msgspec.Meta(min_length=1)]
    max_completion_tokens: int | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    parallel_tool_calls: bool | None = None
    tool_choice: Literal["none"] | None = None

    @property
    def max_output_tokens(self) -> int | None:
        return self.max_tokens if self.max_completion_tokens is None else self.max_completion_tokens

    def plausible(self) -> bool:
        return Sampled.plausible(self) and not self.logprobs and not self.top_logprobs


class CompletionBody(Sampled, kw_only=True):
    prompt: str | list[Annotated[int, msgspec.Meta(ge=0)]]
    n: int = 1  # vLLM refuses null here, though not in chat
    max_tokens: int = 16  # OpenAI's default; an explicit null takes the slow way
    echo: bool | None = None
    best_of: None = None
    logprobs: None = None
    suffix: None = None

    @property
    def max_output_tokens(self) -> int | None:
        return self.max_tokens

    def plausible(self) -> bool:
        return Sampled.plausible(self) and bool(self.prompt) and not self.echo


Body: TypeAlias = ChatBody | CompletionBody

_chat = msgspec.json.Decoder(ChatBody)
_completion = msgspec.json.Decoder(CompletionBody)


def decode(kind: Kind, body: bytes) -> Body | None:
    """The fields of a request that the fast way covers wholly, else None."""
    decoder: msgspec.json.Decoder[ChatBody] | msgspec.json.Decoder[CompletionBody]
    if kind == "chat":
        decoder = _chat
    elif kind == "completions":
        decoder = _completion
    else:
        return None
    try:
        fields: Body = decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return fields if fields.plausible() else None
