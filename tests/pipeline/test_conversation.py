"""A library's requests are read by the reader of HTTP's bodies."""

import json
from collections.abc import Callable
from types import MappingProxyType
from typing import Any

import pytest

from router.dialects.decode import decode
from router.errors import BadRequest
from router.pipeline.conversation import query_of
from router.pipeline.library import ask
from router.types import Query, Turn

ODD = [
    [{"role": 1, "content": "a"}],
    [{"role": "user", "content": 5}],
    [{"role": "user", "content": {"text": "a"}}],
    [{"role": "user", "content": [None]}],
    [{"role": "user", "content": [{"type": "text", "text": 5}]}],
    [{"role": "user", "content": [{"type": "tool_result", "content": [{"type": "text", "text": "42"}]}]}],
    [{"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "a"}, "b"]}],
    [{"role": "user", "content": [{"text": "a", "type": "image_url"}, {"type": "input_audio"}]}],
    [{"role": "user", "content": [{"type": None, "text": "a"}]}],
    [{"content": "a", "role": "user", "more": {"x": [1]}}, {"role": "assistant", "content": None}],
]


@pytest.mark.parametrize("messages", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize(
    "more",
    [{}, {"tools": {}}, {"logprobs": "yes"}, {"logprobs": "no"}, {"response_format": {"type": "json_object"}},
     {"response_format": "text"}, {"structured_outputs": {}}, {"max_tokens": "+4"}, {"max_tokens": 0}, {"n": True}],
    ids=str,
)  # fmt: skip
def test_odd_requests_mean_to_a_library_what_they_mean_over_http(messages: Any, more: dict[str, Any]) -> None:
    body = json.dumps({"messages": messages, "model": "auto", "stream": False} | more).encode()
    expected = outcome(lambda: decode("chat", body))
    assert outcome(lambda: ask(messages, "auto", more, stream=False)[0]) == expected
    if isinstance(expected, Query):
        assert decode("chat", ask(messages, "auto", more, stream=False)[1]) == expected
    if more.keys() <= {"tools", "logprobs", "response_format", "structured_outputs"}:
        assert outcome(lambda: query_of(messages, model="auto", parameters=more)) == expected


def outcome(read: Callable[[], Query]) -> Query | tuple[str, str | None]:
    try:
        return read()
    except BadRequest as error:
        return error.message, error.param


def test_other_mappings_and_sequences_are_conversations_too() -> None:
    messages = (MappingProxyType({"role": "user", "content": ("a", {"type": "text", "text": "b"})}),)
    query, sent = ask(messages, "auto", {}, stream=False)
    assert query.turns == (Turn("user", "a\nb"),)
    assert json.loads(sent)["messages"][0]["content"][0] == {"type": "text", "text": "a"}
