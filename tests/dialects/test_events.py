"""Event streams on their way through: any split gives whole events, the same bytes, another model name."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.dialects.events import UpstreamEvents, as_asked
from router.errors import BadRequest
from router.types import Kind

TEXT = st.text(max_size=30)


def event(content: str) -> bytes:
    choice = {"delta": {"content": content}, "finish_reason": None}
    return b"data: " + json.dumps({"model": "theirs", "choices": [choice]}).encode() + b"\n\n"


@given(
    st.lists(TEXT, min_size=1, max_size=10),
    st.lists(st.integers(0, 2000), max_size=20),
    st.sampled_from([b"\n", b"\r\n"]),
)
def test_any_split_gives_the_same_events(contents: list[str], cuts: list[int], newline: bytes) -> None:
    stream = (b"".join(map(event, contents)) + b": a comment\n\ndata: [DONE]\n\n").replace(b"\n", newline)
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    events = UpstreamEvents("chat", "ours")
    out = [events.feed(stream[a:b]) for a, b in pairwise(edges)]
    assert all(piece.endswith(newline * 2) for piece in out if piece)
    assert b"".join(out) == stream.replace(b'"model": "theirs"', b'"model":"ours"')
    assert events.finished


@pytest.mark.parametrize("content", ['"model":"theirs"', 'say \\"model\\": \\"x\\"', '{"model": "theirs"}'])
def test_a_text_that_looks_like_a_key_is_left_alone(content: str) -> None:
    events = UpstreamEvents("chat", "ours")
    out = events.feed(event(content))
    assert json.loads(out[6:])["choices"][0]["delta"]["content"] == content
    assert json.loads(out[6:])["model"] == "ours"


@pytest.mark.parametrize(
    ("kind", "stream", "usage"),
    [
        (
            "messages",
            b'event: message_start\ndata: {"type":"message_start","message":{"usage":{"input_tokens":9}}}\n\n'
            b'event: message_delta\ndata: {"type":"message_delta","usage":{"output_tokens":4}}\n\n'
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n',
            (9, 4),
        ),
        (
            "responses",
            b'event: response.created\ndata: {"type":"response.created","response":{"usage":null}}\n\n'
            b"event: response.completed\n"
            b'data: {"type":"response.completed","response":{"usage":{"input_tokens":3,"output_tokens":2}}}\n\n',
            (3, 2),
        ),
    ],
    ids=["messages", "responses"],
)
def test_streams_of_other_apis_end_and_are_counted(kind: Kind, stream: bytes, usage: tuple[int, int]) -> None:
    events = UpstreamEvents(kind, "ours")
    last = stream.rindex(b"event: ")
    events.feed(stream[:last])
    assert not events.finished
    events.feed(stream[last:])
    assert events.finished
    assert (events.usage.prompt_tokens, events.usage.completion_tokens) == usage


def test_the_same_name_passes_untouched() -> None:
    stream = event("x") * 3
    assert UpstreamEvents("chat", "theirs").feed(stream) == stream


def test_only_the_model_of_a_body_changes() -> None:
    body = b'{"model": "auto", "seed": 12345678901234567890, "x": [1.50, null, "\\u00e9"]}'
    assert as_asked(body, 'a"b', False) == b'{"model":"a\\"b","seed":12345678901234567890,"x":[1.50, null, "\\u00e9"]}'
    assert json.loads(as_asked(b'{"messages": []}', "m", True)) == {"messages": [], "model": "m"}


@pytest.mark.parametrize("lax", [b'"no"', b'"false"', b'"0"', b'"Off"', b"0", b"0.0", b'"yes"', b'"true"', b" 1.0"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_lenient_spelling_of_stream_is_sent_as_it_was_read(lax: bytes, stream: bool) -> None:
    assert json.loads(as_asked(b'{"stream": %b, "x": "no"}' % lax, "m", stream)) == {
        "model": "m",
        "stream": stream,
        "x": "no",
    }


@pytest.mark.parametrize("plain", [b"true", b"false", b"null"])
def test_a_plain_stream_stays_as_it_came(plain: bytes) -> None:
    assert as_asked(b'{"stream": %b }' % plain, "m", False) == b'{"stream":%b,"model":"m"}' % plain


@pytest.mark.parametrize("body", [b"[]", b"{", b"\xff", b'{"a":' + b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(body: bytes) -> None:
    with pytest.raises(BadRequest, match="not a JSON object"):
        as_asked(body, "m", False)


def test_choices_that_no_answer_has_say_nothing() -> None:
    events = UpstreamEvents("chat", "ours")
    for index in (-1, -2, 1024, 10**30):
        events.feed(b'data: {"choices": [{"index": %d, "finish_reason": "length"}]}\n\n' % index)
    events.end()
    assert not events.finished
    assert events.finish_reason == "stop"
    assert events.broken == "its stream ended before [DONE]"
