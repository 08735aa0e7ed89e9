"""SageMaker's route: what a body asks for is told by its fields."""

import pytest

from router.dialects.decode import read
from router.dialects.invocations import kind_of
from router.errors import BadRequest


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"messages": [], "prompt": "x"}', "chat"),
        (b'{"prompt": "x"}', "completions"),
        (b'{"prompt": null, "model": "m"}', "completions"),
        (b'{"prompt_embeds": "AA=="}', "completions"),
        (b'\xef\xbb\xbf{"prompt": [1, 2]}', "completions"),
    ],
)
def test_messages_ask_for_a_chat_and_a_prompt_for_a_completion(body: bytes, kind: str) -> None:
    assert kind_of(body) == kind


ABLE = {
    "auto": frozenset({"chat", "completions", "embeddings", "classify", "pooling", "rerank"}),
    "emb": frozenset({"embeddings", "pooling"}),
    "classes": frozenset({"classify", "pooling"}),
    "plugin": frozenset({"pooling"}),
}


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b'{"input": "x"}', "embeddings"),
        (b'{"input": ["x"], "model": "classes"}', "classify"),
        (b'{"input": "x", "model": "plugin"}', "pooling"),
        (b'{"messages": [], "model": "emb"}', "embeddings"),
        (b'{"messages": [], "model": "unheard"}', "chat"),
        (b'{"messages": [], "model": 3}', "chat"),
        (b'{"query": "q", "documents": ["d"]}', "rerank"),
        (b'{"queries": "q", "documents": ["d"]}', "score"),
        (b'{"text_1": "q", "text_2": "d"}', "score"),
        (b'{"data_1": "q", "data_2": "d"}', "score"),
        (b'{"data": {}}', "pooling"),
    ],
)
def test_what_the_named_model_can_do_tells_the_rest(body: bytes, kind: str) -> None:
    assert kind_of(body, ABLE) == kind


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"\xff", b"[" * 200_000])
def test_what_is_no_object_is_refused_as_a_chat_would_be(body: bytes) -> None:
    with pytest.raises(BadRequest):
        read(kind_of(body), body)


def test_a_body_that_tells_nothing_is_refused_with_the_fields_that_would() -> None:
    with pytest.raises(BadRequest, match=r"expected one of `messages` \(chat\), `prompt` \(completions\)"):
        kind_of(b'{"inputs": "hello"}')
