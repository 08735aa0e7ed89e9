"""The tokens of answers in all the shapes in which the APIs tell of them."""

import json

import msgspec
import pytest

from router.pipeline.batch.usage import Tokens


def result(usage: object, **body: object) -> bytes:
    return json.dumps({"id": "x", "response": {"status_code": 200, "body": {**body, "usage": usage}}}).encode()


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 4,
                "total_tokens": 14,
                "prompt_tokens_details": {"cached_tokens": 8},
                "completion_tokens_details": {"reasoning_tokens": 3},
            },
            (10, 8, 4, 3),
        ),
        ({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": None}, (10, 0, 4, 0)),
        ({"prompt_tokens": 6, "total_tokens": 6, "completion_tokens": 0}, (6, 0, 0, 0)),
        (
            {
                "input_tokens": 20,
                "input_tokens_details": {"cached_tokens": 5},
                "output_tokens": 7,
                "output_tokens_details": {"reasoning_tokens": 2},
            },
            (20, 5, 7, 2),
        ),
        (
            {"input_tokens": 3, "output_tokens": 7, "cache_read_input_tokens": 16, "cache_creation_input_tokens": 1},
            (20, 16, 7, 0),
        ),
        (None, (0, 0, 0, 0)),
        ({"prompt_tokens": -5}, (0, 0, 0, 0)),
        ({"prompt_tokens": 1.5}, (0, 0, 0, 0)),
        ({"prompt_tokens": "7"}, (0, 0, 0, 0)),
        ([], (0, 0, 0, 0)),
    ],
)
def test_tokens_of_an_answer(usage: object, expected: tuple[int, ...]) -> None:
    tokens = Tokens()
    tokens.add(result(usage, choices=[{"usage": {"prompt_tokens": 99}}]))
    assert (tokens.input, tokens.cached, tokens.output, tokens.reasoning) == expected


@pytest.mark.parametrize("line", [b"", b"[]", b'{"response": null}', b'{"response": {"body": 7}}', b"{"])
def test_what_tells_of_no_tokens_adds_none(line: bytes) -> None:
    tokens = Tokens()
    tokens.add(line)
    assert tokens == Tokens()


def test_sums_are_shown_as_openai_documents_them() -> None:
    tokens = Tokens()
    for _ in range(3):
        tokens.add(result({"prompt_tokens": 10, "completion_tokens": 4, "prompt_tokens_details": {"cached_tokens": 8}}))
    assert json.loads(msgspec.json.encode(tokens.shown())) == {
        "input_tokens": 30,
        "input_tokens_details": {"cached_tokens": 24},
        "output_tokens": 12,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": 42,
    }
