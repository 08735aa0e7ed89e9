"""A query's size: what rules members out that certainly cannot read it."""

import json
from typing import Any

import pytest

from router.config import Member
from router.dialects.decode import decode
from router.errors import ContextTooLong
from router.native import plain
from router.native.large_body import read_chat
from router.native.spec import TurnWeights
from router.pipeline.decider import Decider, decider_of
from router.pipeline.scoring import Scoring
from router.types import Query, Turn

POOL = [
    Member(name="small", strength=0.3, context_tokens=512),
    Member(name="large", strength=0.6, context_tokens=8192),
]


@pytest.fixture(scope="module")
def decider() -> Decider:
    return decider_of("default", POOL, price=0.0)


def body(text: str) -> bytes:
    return json.dumps({"messages": [{"role": "user", "content": text}]}, ensure_ascii=False).encode()


@pytest.mark.parametrize("text", ["1" * 8_000_000, "a" * 8_000_000, "ä" * 4_000_000, " " * 8_000_000, "+" * 8_000_000])
def test_one_word_of_eight_megabytes_is_too_long_for_a_context_of_8192(decider: Decider, text: str) -> None:
    with pytest.raises(ContextTooLong, match="longer than the context of any model"):
        decider.decide(decode("chat", body(text)))


def test_turns_that_were_read_natively_are_scored_as_those_of_the_decoder() -> None:
    scoring = Scoring.load("default", POOL)
    messages = [{"role": ("system", "user", "assistant")[i % 3], "content": f"Turn {i}: {i} + {i}?"} for i in range(50)]
    found = read_chat(json.dumps({"messages": messages}).encode())
    assert found is not None
    queries = [
        Query(kind="chat", model="auto", turns=turns)
        for turns in (found[1], tuple(Turn(message["role"], message["content"]) for message in messages))
    ]
    assert scoring.score(queries[0]) == scoring.score(queries[1])


def test_one_word_too_long_for_the_small_member_goes_to_the_large(decider: Decider) -> None:
    decision = decider.decide(decode("chat", body("a" * 300_000)))
    assert decision.model == "large"
    assert [term.excluded for term in decision.terms] == ["context", None]


@pytest.mark.parametrize("unit", ["a", " ", "=", "\n"])
def test_a_text_of_the_longest_tokens_that_fits_is_not_ruled_out(decider: Decider, unit: str) -> None:
    """No vocabulary in use has a token of more than 128 bytes, such as of blanks."""
    query = decode("chat", body(unit * 128 * 511)) if unit != "=" else decode("chat", body("= " * 255))
    assert [term.excluded for term in decider.decide(query).terms] == [None, None]


def test_token_ids_of_a_prompt_count(decider: Decider) -> None:
    scoring = Scoring.load("default", POOL)
    asked: Any = {"prompt": list(range(3000)), "model": "small"}
    assert scoring.score(decode("completions", json.dumps(asked).encode())).prompt_tokens == 3000
    asked = {"tokens": list(range(3000)), "model": "small"}
    assert scoring.score(decode("detokenize", json.dumps(asked).encode())).prompt_tokens < 10


def test_both_ways_reckon_the_same_size() -> None:
    scoring = Scoring.load("default", POOL)
    for text in ("hello", "a" * 200_000, "ä" * 90_000):
        found = plain.read_chat(body(text), TurnWeights())
        assert found is not None
        _, weighted, *_ = found
        scores = scoring.score(decode("chat", body(text)))
        assert scoring.head.score(weighted).prompt_tokens == scores.prompt_tokens
