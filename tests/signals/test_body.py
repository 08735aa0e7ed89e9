"""All text of a body."""

import json

from router.signals.body import text_of


def test_texts_keys_and_numbers_come_a_line_each() -> None:
    body = {
        "messages": [{"role": "tool", "content": [{"type": "text", "text": "a@b.example"}]}],
        "user": 4111,
        "x": None,
    }
    told = text_of(json.dumps(body).encode())
    assert told is not None
    assert {"a@b.example", "messages", "4111", "tool"} <= set(told.split("\n"))


def test_of_what_is_no_json_there_is_none() -> None:
    assert text_of(b"--boundary\r\n") is None
    assert text_of(b"[" * 100_000) is None
