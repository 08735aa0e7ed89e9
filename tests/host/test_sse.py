"""The bytes of answers, read back as a client would."""

import json

import msgspec
import pytest

from router.host.sse import DONE, Choice, EventWriter, Head, Shape, whole
from router.types import Usage

CHAT = Head(id='chatcmpl-"1"', model="tiny \U0001f642", kind="chat", created=7, fingerprint="fp")
TEXT = Head(id="cmpl-1", model="tiny", kind="completions", created=7)


def events(data: bytes) -> list[dict]:
    parts = data.decode().split("\n\n")
    assert parts[-1] == ""
    assert all(part.startswith("data: ") for part in parts[:-1])
    return [json.loads(part[6:]) for part in parts[:-1]]


def test_chat_chunks():
    writer = EventWriter(CHAT, prompt_tokens=5)
    role, text, finish = events(writer.role(0) + writer.text(0, 'hé"\n', 1) + writer.finish(0, "!", 2, "stop", "x"))
    for event in (role, text, finish):
        assert event["id"] == 'chatcmpl-"1"'
        assert event["model"] == "tiny \U0001f642"
        assert event["object"] == "chat.completion.chunk"
        assert event["created"] == 7
        assert "usage" not in event
    assert role["choices"] == [
        {"index": 0, "delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}
    ]
    assert text["choices"] == [{"index": 0, "delta": {"content": 'hé"\n'}, "logprobs": None, "finish_reason": None}]
    assert finish["choices"] == [
        {"index": 0, "delta": {"content": "!"}, "logprobs": None, "finish_reason": "stop", "stop_reason": "x"}
    ]
    assert finish["system_fingerprint"] == "fp"


def test_completion_chunks():
    writer = EventWriter(TEXT, prompt_tokens=5)
    assert writer.role(0) == b""
    text, finish = events(writer.text(1, "a", 1) + writer.finish(1, "", 2, "length", None))
    assert text["object"] == "text_completion"
    assert text["choices"] == [{"index": 1, "text": "a", "logprobs": None, "finish_reason": None}]
    assert finish["choices"][0]["finish_reason"] == "length"
    assert "system_fingerprint" not in finish


@pytest.mark.parametrize("head", [CHAT, TEXT], ids=["chat", "completions"])
def test_usage_with_every_chunk(head):
    writer = EventWriter(head, prompt_tokens=5, continuous_usage=True)
    data = writer.role(0) + writer.text(0, "a", 1) + writer.text(0, "b", 2) + writer.finish(0, "c", 3, "stop", None)
    counts = [event["usage"]["completion_tokens"] for event in events(data)]
    assert counts == ([0, 1, 2, 3] if head is CHAT else [1, 2, 3])
    assert events(data)[-1]["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def test_closing_usage():
    writer = EventWriter(CHAT, prompt_tokens=5, closing_usage=True)
    finish, event = events(writer.finish(0, "!", 2, "stop", None) + writer.usage(Usage(5, 3, 2)))
    assert "system_fingerprint" not in finish
    assert event["system_fingerprint"] == "fp"
    assert event["choices"] == []
    assert event["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    detailed = Head(id="x", model="m", kind="chat", created=1, cached_details=True)
    (event,) = events(EventWriter(detailed, prompt_tokens=5).usage(Usage(5, 3, 2)))
    assert event["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert DONE == b"data: [DONE]\n\n"


def test_tokens_written_to_the_cache_are_told_where_vllm_tells_them():
    head = shaped("chat", cached_details=True)
    head = msgspec.structs.replace(head, shape=msgspec.structs.replace(SHAPE, tells_created=True))
    (event,) = events(EventWriter(head, prompt_tokens=5).usage(Usage(5, 3, 2), 3))
    assert event["usage"]["prompt_tokens_details"] == {"cached_tokens": 2, "created_cache_tokens": 3}
    body = json.loads(whole(head, [Choice(0, "a", "stop")], Usage(5, 3, 2), 3))
    wanted = {"cached_tokens": 2, "created_cache_tokens": 3, "multimodal_tokens": None}
    assert body["usage"]["prompt_tokens_details"] == wanted


def test_choices_of_one_stream_keep_apart():
    writer = EventWriter(TEXT, prompt_tokens=1)
    data = b"".join(writer.text(index, str(index), 1) for index in (0, 2, 0, 1))
    assert [(e["choices"][0]["index"], e["choices"][0]["text"]) for e in events(data)] == [
        (0, "0"),
        (2, "2"),
        (0, "0"),
        (1, "1"),
    ]


def test_whole_chat():
    body = json.loads(whole(CHAT, [Choice(0, "a\u2028b", "stop"), Choice(1, "", "length", 7)], Usage(5, 3, 0)))
    assert body["object"] == "chat.completion"
    assert body["system_fingerprint"] == "fp"
    assert body["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}
    first, second = body["choices"]
    assert first["message"] == {"role": "assistant", "content": "a\u2028b"}
    assert (first["finish_reason"], first["stop_reason"]) == ("stop", None)
    assert (second["index"], second["message"]["content"], second["stop_reason"]) == (1, "", 7)


def test_whole_completion():
    body = json.loads(whole(TEXT, [Choice(0, "t", "stop")], Usage(1, 1)))
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "t", "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    ]


SHAPE = Shape(
    answer=b',"metrics":null',
    choice=b',"token_ids":null',
    message=b',"refusal":null,"tool_calls":[]',
    usage=b',"completion_tokens_details":null',
    details=b',"multimodal_tokens":null',
    role=b',"prompt_text":null',
    text=b',"stop_reason":null,"token_ids":null',
    finish=b',"token_ids":null',
    event_usage=b',"completion_tokens_details":null',
    empty_delta=b"",
)


def shaped(kind, **more):
    return Head(id="x", model="m", kind=kind, created=1, shape=SHAPE, **more)


def test_empty_fields_stand_where_vllm_has_them_in_a_whole_answer():
    body = json.loads(whole(shaped("chat", cached_details=True), [Choice(0, "a", "stop")], Usage(5, 3, 2)))
    assert body["metrics"] is None
    assert body["choices"][0]["token_ids"] is None
    assert body["choices"][0]["message"] == {"role": "assistant", "content": "a", "refusal": None, "tool_calls": []}
    assert body["usage"] == {
        "prompt_tokens": 5,
        "total_tokens": 8,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 2, "multimodal_tokens": None},
        "completion_tokens_details": None,
    }
    body = json.loads(whole(shaped("completions"), [Choice(0, "a", "stop")], Usage(5, 3)))
    assert body["choices"][0] == {
        "index": 0,
        "text": "a",
        "logprobs": None,
        "finish_reason": "stop",
        "stop_reason": None,
        "token_ids": None,
    }


def test_empty_fields_stand_where_vllm_has_them_in_a_stream():
    writer = EventWriter(shaped("chat"), prompt_tokens=5, closing_usage=True, continuous_usage=True)
    role, text, end, usage = events(
        writer.role(0) + writer.text(0, "a", 1) + writer.finish(0, "", 2, "stop", 7) + writer.usage(Usage(5, 2))
    )
    assert role["prompt_text"] is None
    assert text["choices"][0]["token_ids"] is None
    assert "prompt_text" not in text
    assert text["usage"]["completion_tokens_details"] is None
    assert end["choices"] == [
        {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop", "stop_reason": 7, "token_ids": None}
    ]
    assert usage["usage"] == {"prompt_tokens": 5, "total_tokens": 7, "completion_tokens": 2}
    writer = EventWriter(shaped("completions"), prompt_tokens=5)
    text, end = events(writer.text(0, "a", 1) + writer.finish(0, "", 2, "stop", 7))
    assert (text["choices"][0]["stop_reason"], text["choices"][0]["token_ids"]) == (None, None)
    assert (end["choices"][0]["text"], end["choices"][0]["stop_reason"]) == ("", 7)
