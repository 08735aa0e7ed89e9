"""The bytes of answers, read back as a client would."""

import json

import pytest

from router.host.sse import DONE, Choice, EventWriter, Head, whole
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
    assert first["message"] == {"role": "assistant", "content": "a\u2028b", "refusal": None}
    assert (first["finish_reason"], first["stop_reason"]) == ("stop", None)
    assert (second["index"], second["message"]["content"], second["stop_reason"]) == (1, "", 7)


def test_whole_completion():
    body = json.loads(whole(TEXT, [Choice(0, "t", "stop")], Usage(1, 1)))
    assert body["object"] == "text_completion"
    assert body["choices"] == [
        {"index": 0, "text": "t", "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    ]
