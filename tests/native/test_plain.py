"""The common request's way against the ordinary one, part by part: whatever it takes, it takes for the same."""

import json
import math
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.config import Limits
from router.dialects.decode import decode
from router.errors import BadRequest
from router.features import segments
from router.ipc.frames import FrameDecoder, encode_frame
from router.ipc.messages import Chunks, Done, Fail, Load, Message, Submit
from router.native import plain
from router.native.spec import TurnWeights
from router.steps import StepSums
from router.types import Capability, Timings, Usage

TURNS = TurnWeights()
CAPABILITIES = get_args(Capability)
START = b"POST /v1/chat/completions HTTP/1.1\r\n"

# JSON

texts = st.one_of(
    st.sampled_from(["", "hi", "two\nlines", 'a "quote"', "\\", "é ü 日本 🎉", "\x7f"]), st.text(max_size=30)
)
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(), texts),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=8,
)
part = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": texts}),
    st.fixed_dictionaries({"type": st.just("text"), "text": texts}, optional={"cache_control": anything}),
    st.fixed_dictionaries(
        {},
        optional={"type": st.sampled_from(["text", "image_url", None]), "text": st.none() | texts, "content": anything},
    ),
    texts,
)
content = st.one_of(st.none(), texts, texts, st.lists(part, max_size=3))
message = st.fixed_dictionaries(
    {"role": st.sampled_from(["user", "assistant", "system", "developer", "tool"]), "content": content},
    optional={"name": anything, "tool_calls": anything},
)
number = st.one_of(st.none(), st.integers(-2, 3), st.integers(), st.floats(), st.just("16"), st.just(2**31 - 1))
chat = st.fixed_dictionaries(
    {"messages": st.lists(message, max_size=5)},
    optional={
        "model": st.none() | texts,
        "stream": st.none() | st.booleans() | st.just("true"),
        "max_tokens": number,
        "max_completion_tokens": number,
        "n": number,
        "logprobs": st.none() | st.booleans(),
        "tools": st.sampled_from([None, [], {}, 5, "x", [{"type": "function", "function": {"name": "f"}}]]),
        "functions": st.sampled_from([None, [], [{"name": "f"}]]),
        "tool_choice": st.sampled_from([None, "auto", {"type": "function"}]),
        "response_format": st.sampled_from(
            [
                None,
                {},
                5,
                {"type": "text"},
                {"type": "json_object"},
                {"type": None},
                {"json_schema": {"schema": {"type": "object"}}, "type": "json_schema"},
            ]
        ),
        "structured_outputs": st.sampled_from([None, {}, {"regex": "a"}]),
        "temperature": anything,
        "stop": anything,
    },
)


def check_chat(body: bytes) -> bool:
    """Whether the native reader took `body`; raises where it took it for something else."""
    found = plain.read_chat(body, TURNS)
    if found is None:
        return False
    query = decode("chat", body)
    model, weighted, stream, max_tokens, choices, needs = found
    assert (model or "auto", stream, max_tokens, choices) == (
        query.model,
        query.stream,
        query.max_tokens,
        query.choices,
    )
    assert query.needs == needs
    expected = segments(query.turns, TURNS)
    assert [text for text, _ in weighted] == [text for text, _ in expected]
    assert [weight for _, weight in weighted] == pytest.approx([weight for _, weight in expected], rel=1e-6)
    return True


@settings(max_examples=600, deadline=None)
@given(chat, st.booleans(), st.sampled_from([None, 2]))
def test_a_body_means_the_same(body: dict[str, Any], ascii: bool, indent: int | None) -> None:
    try:
        encoded = json.dumps(body, ensure_ascii=ascii, indent=indent).encode()
    except UnicodeEncodeError:  # a lone surrogate
        encoded = json.dumps(body, indent=indent).encode()
    check_chat(encoded)


def mutate(body: bytes, draw: st.DrawFn) -> bytes:
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(body)))
        drop = draw(st.integers(0, 3))
        body = body[:at] + draw(st.sampled_from(SNIPPETS) | st.binary(max_size=2)) + body[at + drop :]
    return body


SNIPPETS = [b"", b'"', b"\\", b"\\u", b"\\ud800", b"\\u00e9", b",", b"}", b"]", b"{", b"[", b"0", b"-", b"1e400",
            b".5", b"null", b"\xff", b"\xc3", b"\xed\xa0\x80", b"\x00", b"\t", b'"role":', b'"n":2,']  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    return mutate(json.dumps(draw(chat)).encode(), draw)


@settings(max_examples=600, deadline=None)
@given(mutated())
def test_a_broken_body_is_never_taken(body: bytes) -> None:
    if check_chat(body):
        json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        '{"messages":[{"role":"user","content":"hi"}]}',
        ' { "model" : "auto" , "messages" : [ { "content" : "hi" , "role" : "user" } ] , "stream" : true } ',
        '{"messages":[{"role":"system","content":"a\\n\\u00e9\\ud83c\\udf89"},{"role":"user","content":"é"}],"n":2}',
        '{"messages":[{"role":"user","content":"x","name":"n"}],"temperature":0.7,"stop":["a",{"b":[null,-1.5e3]}]}',
        '{"messages":[{"role":"user","content":null}],"max_tokens":16,"tools":null,"logprobs":false}',
        '{"messages":[{"role":"user","content":"x"}],"max_tokens":9,"max_completion_tokens":5,"stream":null}',
        '{"messages":[{"role":"user","content":[{"type":"text","text":"x"}]}]}',
        '{"messages":[{"role":"user","content":[{"text":"a\\n"},{"text":"","type":"text"},{"text":"é","type":"text"}]}]}',
        '{"messages":[{"role":"user","content":[]},{"role":"user","content":[ {"text":"a"} , {"text":"b"} ]}]}',
        '{"messages":[{"role":"user","content":[{"type":"text","text":"x","cache_control":{"type":"ephemeral"}}]}]}',
        '{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}],"tool_choice":"auto"}',
        '{"messages":[{"role":"user","content":"x"}],"tools":[ ],"functions":{}}',
        '{"messages":[{"role":"user","content":"x"}],"logprobs":true,"top_logprobs":2}',
        '{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"}}',
        '{"messages":[{"role":"user","content":"x"}],"structured_outputs":{"regex":"a"}}',
        '{"messages":[{"role":"user","content":"x"}],"a":' + "[" * 30 + "]" * 30 + "}",
    ],
)
def test_plain_bodies_are_taken(body: str) -> None:
    assert check_chat(body.encode())


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{}",
        "[]",
        '{"messages":[]}',
        '{"messages":[{"role":"user","content":[{"type":"text"}]}]}',
        '{"messages":[{"role":"user","content":[{"type":"text","text":null}]}]}',
        '{"messages":[{"role":"user","content":[{"type":"text","text":"x","text":"y"}]}]}',
        '{"messages":[{"role":"user","content":[{"type":"text","text":"x","content":"y"}]}]}',
        '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":"data:x"}}]}]}',
        '{"messages":[{"role":"user","content":[{"type":"text","text":"x"},"y"]}]}',
        '{"messages":[{"role":"user","content":{"text":"x"}}]}',
        '{"messages":[{"role":"user","content":"x"}],"tools":[{}],"tools":[]}',
        '{"messages":[{"role":"user","content":"x"}],"tools":[{]}',
        '{"messages":[{"role":"user","content":"x"}],"logprobs":1}',
        '{"messages":[{"role":"user","content":"x"}],"truncate_prompt_tokens":20}',
        '{"messages":[{"role":"user","content":"x"}],"response_format":"json_object"}',
        '{"messages":[{"role":"user","content":"x"}],"max_tokens":0}',
        '{"messages":[{"role":"user","content":"x"}],"max_tokens":16.0}',
        '{"messages":[{"role":"user","content":"x"}],"n":2000}',
        '{"messages":[{"role":"user","content":"x"}],"model":"a","model":"b"}',
        '{"messages":[{"role":"user","content":"x","role":"system"}]}',
        '{"messages":[{"role":"user","content":"\\ud800"}]}',
        '{"messages":[{"role":"user","content":"x"}]} x',
        '\ufeff{"messages":[{"role":"user","content":"x"}]}',
        '{"messages":[{"role":"user","content":"x"}],"metadata":{"title":"\\ud83d"}}',
        '{"messages":[{"role":"user","content":"x"}],"stream":"no"}',
        '{"messages":[{"role":"user","content":"x"}],"max_tokens":"+4"}',
        '{"messages":[{"role":"user","content":["x"]}]}',
        '{"messages":[{"role":"user","content":"x"}],"messages":[{"role":"user","content":"y"}]}',
        '{"messages":[{"role":"user","content":"x"}],"seed":' + "7" * 1_000_000 + "}",
        '{"messages":[{"role":"user","content":"x"}],"a":' + "[" * 100_000 + "]" * 100_000 + "}",
        '{"messages":[' + ",".join(["{}"] * 1_000_000) + "]}",
        '{"messages":[{"role":"user","content":"x"}],"a":' + "[" * 80 + "]" * 80 + "}",
    ],
)
def test_anything_else_is_left(body: str) -> None:
    assert plain.read_chat(body.encode(), TURNS) is None


@pytest.mark.parametrize(
    "body", [b'{"messages":[{"role":"user","content":"\xff"}]}', b'{"a":"\xed\xa0\x80","messages":[{}]}']
)
def test_what_is_no_utf8_is_left(body: bytes) -> None:
    assert plain.read_chat(body, TURNS) is None
    with pytest.raises(BadRequest, match="UTF-8"):
        decode("chat", body)


# HTTP: in tests/frontend/test_express.py, which may know the full parser


def request(*lines: str, body: bytes = b"{}", start: bytes = START, type: str = "application/json") -> bytes:
    typed = (f"content-type: {type}",) if type else ()
    return start + "".join(line + "\r\n" for line in (*typed, *lines)).encode() + b"\r\n" + body


def test_a_plain_request_is_read() -> None:
    data = request(
        "Host: x", "content-length:  2 ", "Connection: Keep-Alive", "Authorization: Bearer k", "x-api-key: j"
    )
    assert plain.read_request(data, START, Limits()) == (b"{}", b"Bearer k", b"j", b"", b"", b"")


TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    ("line", "request_id", "session_id", "traceparent"),
    [
        ("X-Request-Id: mine", "mine", "", ""),
        ("x-request-id: a b  c", "abc", "", ""),
        ("x-request-id:", "", "", ""),
        ("x-request-id: " + "x" * 300, "x" * 256, "", ""),
        ("x-session-id: " + "s" * 256, "", "s" * 256, ""),
        (f"traceparent: {TRACE}", "", "", TRACE),
        (f"traceparent: {TRACE}-more of it", "", "", f"{TRACE}-more of it"),
        (f"traceparent: {TRACE}x", "", "", ""),
        (f"traceparent: {TRACE.upper()}", "", "", ""),
        ("traceparent: 00-0-0-00", "", "", ""),
        ("traceparent:", "", "", ""),
    ],
)
def test_ids_and_trace_of_the_head_are_read(line: str, request_id: str, session_id: str, traceparent: str) -> None:
    found = plain.read_request(request("host: x", "content-length: 2", line), START, Limits())
    assert found is not None
    assert found[3:] == (request_id.encode(), session_id.encode(), traceparent.encode())


@pytest.mark.parametrize(
    "lines",
    [
        ["content-length: 2"],
        ["host: x"],
        ["host: x", "host: y", "content-length: 2"],
        ["host: x", "content-length: 2", "content-length: 2"],
        ["host: x", "content-length: 3"],
        ["host: x", "content-length: 1"],
        ["host: x", "content-length: +2"],
        ["host: x", "content-length: 2, 2"],
        ["host: x", "content-length: 2", "transfer-encoding: chunked"],
        ["host: x", "content-length: 2", "connection: close"],
        ["host: x", "content-length: 2", "connection: keep-alive, x"],
        ["host: x", "content-length: 2", "upgrade: h2c"],
        ["host: x", "content-length: 2", "expect: 100-continue"],
        ["host: x", "content-length: 2", "origin: http://x"],
        ["host: x", "content-length: 2", "content-encoding: gzip"],
        ["host: x", "content-length: 2", "x-request-id: 1", "x-request-id: 1"],
        ["host: x", "content-length: 2", "x-request-id:", "x-request-id: 1"],
        ["host: x", "content-length: 2", "x-session-id: a b"],
        ["host: x", "content-length: 2", "x-session-id:"],
        ["host: x", "content-length: 2", "x-session-id: " + "s" * 257],
        ["host: x", "content-length: 2", "X-Headgate-Debug: true"],
        ["host: x", "content-length: 2", "traceparent: 00-0-0-00", "traceparent: 00-0-0-00"],
        ["host: x", "content-length : 2"],
        ["host: x", " folded", "content-length: 2"],
        ["host: x", "a: \x01", "content-length: 2"],
        ["host: x", "a: é", "content-length: 2"],
        ["host: x", "a", "content-length: 2"],
        ["host: x", f"{'a' * 65}: 1", "content-length: 2"],
        ["host: x", "authorization:", "content-length: 2"],
    ],
)
def test_an_unusual_request_is_left(lines: list[str]) -> None:
    assert plain.read_request(request(*lines), START, Limits()) is None


@pytest.mark.parametrize("type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonp"])
def test_a_request_of_no_json_type_is_left(type: str) -> None:
    assert plain.read_request(request("host: x", "content-length: 2", type=type), START, Limits()) is None


def test_the_limits_are_left_to_the_full_parser() -> None:
    data = request("host: x", "content-length: 2", "a: b")
    assert plain.read_request(data, START, Limits()) is not None
    for limits in (Limits(headers=2), Limits(header_bytes=40), Limits(body_bytes=1)):
        assert plain.read_request(data, START, limits) is None


@given(st.integers(0, 120))
def test_a_request_in_pieces_is_left(size: int) -> None:
    data = request("host: x", "content-length: 2")
    assert plain.read_request(data[: min(size, len(data) - 1)], START, Limits()) is None
    assert plain.read_request(data + b"P", START, Limits()) is None


# Frames

ids = st.integers(0, 2**63 - 1) | st.sampled_from([0, 127, 128, 255, 256, 65535, 65536, 2**32 - 1, 2**32])


@given(ids, st.integers(0, 70_000), st.text(max_size=300), st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_a_submit_is_decoded_by_msgspec_to_what_it_was_made_of(
    id: int, size: int, request_id: str, traceparent: str
) -> None:
    body = b"x" * size
    frame = plain.submit_frame(id, body, request_id.encode(), traceparent.encode())
    expected = Submit(id=id, kind="chat", body=body, request_id=request_id, traceparent=traceparent)
    assert FrameDecoder().feed(frame) == [expected]
    assert len(frame) <= len(encode_frame(expected))


@given(st.lists(st.tuples(ids, st.binary(max_size=300)), max_size=40))
def test_chunks_are_read_as_msgspec_does(items: list[tuple[int, bytes]]) -> None:
    frame = bytes(encode_frame(Chunks(items)))[4:]
    assert plain.read_chunks(frame) == items
    assert plain.read_done(frame) is None
    assert plain.read_chunks(frame[:-1]) is None
    assert plain.read_chunks(frame + b"\xc0") is None


def test_many_and_large_chunks() -> None:
    for items in ([(i, b"x") for i in range(70_000)], [(1, bytes(70_000))]):
        assert plain.read_chunks(bytes(encode_frame(Chunks(items)))[4:]) == items


seconds = st.floats(allow_nan=False)


@given(ids, st.tuples(ids, ids, ids), st.sampled_from(["stop", "length"]), st.tuples(seconds, seconds))
def test_a_done_is_read_as_msgspec_does(
    id: int, usage: tuple[int, int, int], reason: str, times: tuple[float, float]
) -> None:
    done = Done(id=id, usage=Usage(*usage), finish_reason=reason, timings=Timings(*times))
    frame = bytes(encode_frame(done))[4:]
    assert plain.read_done(frame) == (id, usage, times, reason)
    assert plain.read_chunks(frame) is None
    assert plain.read_done(frame[:-1]) is None


@given(ids, ids, st.tuples(seconds, seconds, seconds, seconds))
def test_a_load_is_read_as_msgspec_does(running: int, waiting: int, figures: tuple[float, float, float, float]) -> None:
    use, hit, prefill, output = figures
    load = Load(
        running=running,
        waiting=waiting,
        kv_use=use,
        prefix_hit=hit,
        prefill_tokens_per_s=prefill,
        time_per_output_token_s=output,
    )
    frame = bytes(encode_frame(load))[4:]
    assert plain.read_load(frame) == (running, waiting, use, hit, prefill, output, 0, StepSums())
    assert plain.read_done(frame) is plain.read_chunks(frame) is None
    assert plain.read_load(frame[:-1]) is plain.read_load(frame + b"\xc0") is None


def test_other_frames_are_left() -> None:
    for other in (Fail(id=1, status=500, body=b"{}"), Done(id=2**63), Done(id=1, timings=Timings(1, 2))):  # type: ignore[arg-type]
        frame = bytes(encode_frame(other))[4:]
        assert plain.read_chunks(frame) is plain.read_done(frame) is plain.read_load(frame) is None
    for unlike in (Load(running=-1), Load(kv_use=1)):
        assert plain.read_load(bytes(encode_frame(unlike))[4:]) is None


_decoder = msgspec.msgpack.Decoder(Message)


@given(st.data())
@settings(max_examples=400, deadline=None)
def test_mutated_frames_are_read_alike_or_left(data: st.DataObject) -> None:
    good = data.draw(
        st.sampled_from(
            [
                Chunks([(1, b"abc"), (300, b"")]),
                Done(id=7, usage=Usage(3, 2, 1), timings=Timings(0.5, 1.5)),
                Load(running=1, waiting=300, kv_use=0.5, prefill_tokens_per_s=1e3),
            ]
        )
    )
    frame = bytearray(encode_frame(good)[4:])
    for _ in range(data.draw(st.integers(1, 2))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    chunks, done = plain.read_chunks(bytes(frame)), plain.read_done(bytes(frame))
    load = plain.read_load(bytes(frame))
    if chunks is not None:
        assert Chunks(chunks) == _decoder.decode(frame)
    elif load is not None:
        read = _decoder.decode(frame)
        assert isinstance(read, Load)
        figures = (read.kv_use, read.prefix_hit, read.prefill_tokens_per_s, read.time_per_output_token_s)
        assert repr(load) == repr(
            (read.running, read.waiting, *figures, read.context_tokens, read.sums)
        )  # two that are no number are not equal
    elif done is not None:
        id, usage, times, reason = done
        read = _decoder.decode(frame)
        assert isinstance(read, Done)
        assert (read.id, tuple(msgspec.structs.astuple(read.usage)), read.finish_reason) == (id, usage, reason)
        assert all(a == b or math.isnan(a) for a, b in zip(msgspec.structs.astuple(read.timings), times, strict=True))
