"""Rows and weights against the twin, for every kind of spec."""

import math
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.native import twin

SPECS = {
    "all": {},
    "pieces alone": {"word_rows": 0, "char_rows": 0, "shape_rows": 0},
    "no unigrams": {"word_orders": (2, 3), "char_rows": 0},
    "unordered": {"word_orders": (3, 1), "char_orders": (5, 2)},
    "long orders": {"word_orders": (8, 4, 1), "char_orders": (8, 1)},
    "capped": {"piece_cap": 4.0, "word_cap": 1.0, "char_cap": 2.5},
    "other seed": {"seed": (1 << 64) - 1},
}
#: Characters that every Unicode version in question has.
KNOWN_TO_ALL = st.characters(exclude_categories=["Cs"]).filter(lambda c: unicodedata.ucd_3_2_0.category(c) != "Cn")
TEXT = st.text(st.sampled_from("the hello run unaffable ab.,? \n\tABC019{}é北한"), max_size=150)


def native_bag(encoder, text):
    indptr, rows, weights, pieces = encoder.featurise([text])
    assert indptr.tolist() == [0, len(rows)]
    return sorted(zip(rows.tolist(), weights.tolist(), strict=True)), pieces[0]


def assert_same(model, text):
    ours, pieces = native_bag(model.encoder, text)
    theirs, count = twin.featurise(text, model.vocab, model.spec)
    theirs = sorted(theirs)
    assert pieces == count
    assert [row for row, _ in ours] == [row for row, _ in theirs]
    np.testing.assert_allclose([weight for _, weight in ours], [weight for _, weight in theirs], rtol=1e-6)


@pytest.mark.parametrize("changes", SPECS.values(), ids=SPECS)
@settings(max_examples=60, deadline=None)
@given(text=TEXT)
def test_any_spec(make_model, changes, text):
    assert_same(make_model(**changes), text)


@settings(max_examples=100, deadline=None)
@given(text=st.text(KNOWN_TO_ALL, max_size=60))
def test_any_text(model, text):
    assert_same(model, text)


def test_a_word_met_again_adds_nothing(model):
    once, pieces_once = native_bag(model.encoder, "hello world")
    again, pieces_again = native_bag(model.encoder, "hello world hello world")
    base = model.spec.bases[3]
    # "world hello" is a new bigram; the shape's counts differ; all else is as before.
    assert {row for row, _ in once if row < base} <= {row for row, _ in again}
    assert sum(row < base for row, _ in again) == sum(row < base for row, _ in once) + 1
    assert pieces_again == 2 * pieces_once


@pytest.mark.parametrize(("words", "word_rows"), [(9_000, 512), (66_000, 0)])
def test_long_texts(make_model, words, word_rows):
    """Past every size at which rows are handed over, and words are forgotten."""
    model = make_model(char_rows=0, word_rows=word_rows)
    text = " ".join(f"я{i}" for i in range(words)) + " я0 я1"
    assert_same(model, text)


def test_a_long_word_between_short_ones(model):
    assert_same(model, "hello " + "ab" * 3_000 + " world hello")


def test_many_words_then_a_long_one(model):
    assert_same(model, " ".join(f"w{i}" for i in range(40)) + " " + "x" * 5_000 + " the end")


@pytest.mark.parametrize("length", [16_383, 16_384, 16_385, 40_000])
@pytest.mark.parametrize("letter", ["x", "é", "각", "\u0344"])
def test_a_run_of_letters_is_cut_into_words_of_16384(model, length, letter):
    assert_same(model, "hello " * 40 + letter * length + " the end")


def test_batch_is_the_texts_one_by_one(model):
    texts = ["hello world", "", "the\nend?", b"bytes \xff too"]
    indptr, rows, weights, pieces = model.encoder.featurise(texts)
    assert (indptr.dtype, rows.dtype, weights.dtype) == (np.int64, np.int32, np.float32)
    for i, text in enumerate(texts):
        one = model.encoder.featurise([text])
        span = slice(indptr[i], indptr[i + 1])
        assert rows[span].tolist() == one[1].tolist()
        assert weights[span].tolist() == one[2].tolist()
        assert pieces[i] == one[3][0]


def test_no_texts(model):
    indptr, rows, weights, pieces = model.encoder.featurise([])
    assert (indptr.tolist(), len(rows), len(weights), len(pieces)) == ([0], 0, 0, 0)


def test_pooling_scale(make_model):
    model = make_model(word_rows=0, char_rows=0, shape_rows=0, piece_cap=4.0)
    for words in (1, 4, 9):
        text = " ".join("abcdefghi"[:words])
        assert native_bag(model.encoder, text)[0][0][1] == pytest.approx(math.sqrt(min(words, 4)) / words)
