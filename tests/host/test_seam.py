"""Where the tokens of a text are put behind those of a prompt, by tokenizers of three kinds."""

import random

import pytest

pytest.importorskip("tokenizers")

from router.host.seam import Behind
from tests.host.vocabularies import KINDS, TEXTS, tokenizer


def encode(kind):
    return lambda text: tokenizer(kind).encode(text, add_special_tokens=False).ids


def decoded(kind, ids):
    """Behind something, so that no blank is taken off the start."""
    start = tokenizer(kind).encode("x", add_special_tokens=False).ids
    text = tokenizer(kind).decode([*start, *ids], skip_special_tokens=False)
    return text.removeprefix("x")


def word_cuts(text):
    """Places before a blank and a character that is none: a word begins there."""
    return [at for at in range(1, len(text) - 1) if text[at] == " " and not text[at + 1].isspace()]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_any_cut_is_encoded_as_the_same_text_with_no_blank_before_it(kind, text):
    behind = Behind(encode(kind))
    for at in range(1, len(text)):
        assert decoded(kind, behind(text[:at])) == text[:at]
        assert decoded(kind, behind(text[at:])) == text[at:]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_a_cut_where_a_word_begins_is_one_that_the_readers_tokenizer_makes_too(kind, text):
    behind = Behind(encode(kind))
    whole = behind(text)
    for at in word_cuts(text):
        assert behind(text[:at]) + behind(text[at:]) == whole


@pytest.mark.parametrize("kind", KINDS)
def test_what_comes_next_decides_how_newlines_at_the_end_are_joined(kind):
    behind = Behind(encode(kind))
    for text, after in (("a b\n\n", "print"), ("is 42.\n", "So"), ("x = 1\n\n\n", "y"), ("say:\n", "1")):
        ids = behind(text, after)
        assert decoded(kind, ids) == text
        assert behind(text + after)[: len(ids)] == ids


def test_without_the_look_ahead_newlines_are_joined_otherwise_than_they_stand_in_the_text():
    behind = Behind(encode("gpt2"))
    assert behind("print\n\n") != behind("print\n\n", "x")


@pytest.mark.parametrize("kind", KINDS)
def test_a_look_ahead_that_shares_a_token_with_the_text_changes_nothing(kind):
    behind = Behind(encode(kind))
    rng = random.Random(7)
    for text in TEXTS:
        for at in rng.sample(range(1, len(text) - 4), 12):
            size = rng.randrange(1, 5)
            assert decoded(kind, behind(text[:at], text[at : at + size])) == text[:at]


def test_sentencepiece_alone_puts_a_blank_before_a_text():
    plain = encode("sentencepiece")("Yes")
    assert Behind(encode("sentencepiece"))("Yes") != plain
    assert Behind(encode("gpt2"))("Yes") == encode("gpt2")("Yes")


def test_no_text_is_no_token():
    assert Behind(encode("sentencepiece"))("", "look") == []
