"""What an answer told, whole or broken."""

import json

import pytest

from router.learn.bench import told
from router.learn.bench.client import Answer
from tests.learn.bench.scripted import DONE, delta, event, usage


def answer(*parts: bytes, status: int = 200, complete: bool = True) -> Answer:
    made = Answer()
    made.status, made.complete = status, complete
    made.parts, made.times_s = list(parts), [1.0 + i for i in range(len(parts))]
    return made


def test_a_stream_tells_text_usage_and_when_each_token_came():
    role = event({"model": "m", "choices": [{"delta": {"role": "assistant", "content": ""}}]})
    found = told.read(answer(role, delta("a"), delta("b", "stop") + usage(7, 2), DONE), stream=True)
    assert (found.text, found.at_s, found.finish, found.fault) == ("ab", [2.0, 3.0], "stop", "")
    assert (found.prompt_tokens, found.completion_tokens, found.model) == (7, 2, "m")


def test_events_cut_anywhere_count_when_their_end_came():
    data = delta("a") + delta("b", "stop") + DONE
    for at in range(1, len(data)):
        found = told.read(answer(data[:at], data[at:]), stream=True)
        assert (found.text, found.fault) == ("ab", "")
        assert found.at_s[1] >= found.at_s[0]
    assert told.read(answer(data[:10], data[10:]), stream=True).at_s == [2.0, 2.0]


def test_line_ends_comments_and_names_of_server_sent_events_are_read():
    data = b": ping\r\n\r\nevent: x\r\ndata:" + delta("a", "stop")[6:-2] + b"\r\n\r\ndata: [DONE]\r\n\r\n"
    found = told.read(answer(data), stream=True)
    assert (found.text, found.fault) == ("a", "")


def test_thinking_and_tool_calls_are_tokens_though_no_text():
    thought = event({"choices": [{"delta": {"reasoning_content": "hm"}}]})
    call = event({"choices": [{"delta": {"tool_calls": [{"index": 0}]}, "finish_reason": "tool_calls"}]})
    found = told.read(answer(thought, call), stream=True)
    assert (found.text, found.at_s, found.finish) == ("", [1.0, 2.0], "tool_calls")


@pytest.mark.parametrize(
    ("made", "fault", "why"),
    [
        (answer(delta("a")), "early", "without a finish reason"),
        (answer(delta("a"), event({"error": {"message": "lost"}}), DONE), "stream", "lost"),
        (answer(event({"error": "lost"})), "stream", "lost"),
        (answer(event(b"{broken")), "malformed", "not a chat completion"),
        (answer(b'{"error":{"message":"slow down"}}', status=429), "limited", "429 slow down"),
        (answer(b"oops", status=502), "status", "502 oops"),
        (answer(b"", status=204), "status", "204"),
    ],
)
def test_a_broken_stream_has_its_kind_and_reason(made, fault, why):
    found = told.read(made, stream=True)
    assert found.fault == fault
    assert why in found.why


def test_a_whole_answer_tells_text_and_usage_and_no_first_token():
    body = {"choices": [{"message": {"content": "4"}, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}}
    found = told.read(answer(json.dumps(body).encode()), stream=False)
    assert (found.text, found.at_s, found.completion_tokens, found.fault) == ("4", [], 1, "")
    assert told.read(answer(b"{}"), stream=False).fault == "malformed"
