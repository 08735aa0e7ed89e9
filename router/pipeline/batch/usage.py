"""The tokens of a batch's answers: read from each result as it stands in the output file, so that a batch that is
resumed counts those of before too.
"""

from typing import Annotated, TypeAlias

import msgspec

from router.pipeline.batch.lines import UNREADABLE
from router.pipeline.batch.objects import InputDetails, OutputDetails, Usage

_Count: TypeAlias = Annotated[int, msgspec.Meta(ge=0, le=1 << 50)]


class _Cached(msgspec.Struct, frozen=True):
    cached_tokens: _Count | None = None


class _Reasoning(msgspec.Struct, frozen=True):
    reasoning_tokens: _Count | None = None


class _Told(msgspec.Struct, frozen=True):
    """`usage` of an answer: chat and completions, embeddings and their kin | responses | Anthropic's messages."""

    prompt_tokens: _Count | None = None
    completion_tokens: _Count | None = None
    prompt_tokens_details: _Cached | None = None
    completion_tokens_details: _Reasoning | None = None
    input_tokens: _Count | None = None
    output_tokens: _Count | None = None
    input_tokens_details: _Cached | None = None
    output_tokens_details: _Reasoning | None = None
    cache_read_input_tokens: _Count | None = None  #: beside `input_tokens`, as is the next
    cache_creation_input_tokens: _Count | None = None


class _Body(msgspec.Struct, frozen=True):
    usage: _Told | None = None


class _Response(msgspec.Struct, frozen=True):
    body: _Body | None = None


class _Result(msgspec.Struct, frozen=True):
    response: _Response | None = None


class Tokens(msgspec.Struct):
    """A sum over answers."""

    input: int = 0
    cached: int = 0  #: of the input
    output: int = 0
    reasoning: int = 0  #: of the output

    def add(self, result: bytes) -> None:
        """Those of a line of the output file; none where its answer tells of none."""
        told = _told(result)
        if told is None:
            return
        cached = told.prompt_tokens_details or told.input_tokens_details or _Cached()
        reasoning = told.completion_tokens_details or told.output_tokens_details or _Reasoning()
        beside = (told.cache_read_input_tokens or 0) + (told.cache_creation_input_tokens or 0)
        self.input += (told.prompt_tokens or told.input_tokens or 0) + beside
        self.cached += (cached.cached_tokens or 0) + (told.cache_read_input_tokens or 0)
        self.output += told.completion_tokens or told.output_tokens or 0
        self.reasoning += reasoning.reasoning_tokens or 0

    def shown(self) -> Usage:
        return Usage(
            input_tokens=self.input,
            input_tokens_details=InputDetails(cached_tokens=self.cached),
            output_tokens=self.output,
            output_tokens_details=OutputDetails(reasoning_tokens=self.reasoning),
            total_tokens=self.input + self.output,
        )


_decode = msgspec.json.Decoder(_Result).decode


def _told(result: bytes) -> _Told | None:
    try:
        found = _decode(result)
    except UNREADABLE:
        return None
    return found.response.body.usage if found.response is not None and found.response.body is not None else None
