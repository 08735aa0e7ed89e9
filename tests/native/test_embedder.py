"""The static embedding from the native call: every instruction set against NumPy over the twin's pieces, any text."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.native import embedder, scorer, twin
from router.native.embedder import Embedder
from router.native.scorer import Encoder

ANY_ISA = pytest.mark.parametrize("isa", scorer.isas())
NO_BOUND = {"most_mass": 1e9, "most_bytes": 1 << 20}
TEXTS = [
    "",
    " \n\t",
    "hello",
    "hello world",
    "Unaffable theme, running? {x: 1}\n" * 5,
    "x\ud800y",
    "ภาษาไทย 北京 مرحبا 👩‍👩‍👧 naïve",
    b"\xff\x00\xe5\x8c",
]


@pytest.fixture(scope="module")
def pieces(make_model):
    """WordPieces only."""
    return make_model(word_rows=0, char_rows=0, shape_rows=0)


@pytest.fixture(scope="module")
def arrays(pieces):
    draw = np.random.default_rng(3)
    rows = draw.integers(-127, 128, (pieces.spec.pieces, 128)).astype(np.int8)
    scales = draw.uniform(0.01, 0.1, pieces.spec.pieces).astype(np.float32)
    rows[pieces.spec.unk] = 0
    return rows, scales


def make(pieces, arrays, isa=None, **bounds):
    return Embedder(pieces.encoder, *arrays, isa=isa, **(NO_BOUND | bounds))


def expect(pieces, arrays, text, most_mass=math.inf, most_bytes=1 << 20):
    """In NumPy, from the words' definition."""
    rows, scales = arrays
    data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    words = twin.distinct(twin.words(data[:most_bytes]))
    total, mass = np.zeros(rows.shape[1]), 0.0
    for id_ in (id_ for word in words for id_ in twin.pieces(word, pieces.vocab, pieces.spec)):
        if mass >= most_mass:
            break
        row = rows[id_].astype(np.float64) * scales[id_]
        total += row
        mass += np.linalg.norm(row)
    return total / (np.linalg.norm(total) or 1)


def test_the_extension_is_native():
    assert embedder.__file__.endswith(".so")


@ANY_ISA
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_equals_numpy_over_the_twins_pieces(pieces, arrays, isa, text):
    made = make(pieces, arrays, isa)
    assert made.isa == isa
    found = made.embed(text)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expect(pieces, arrays, text), atol=2e-6)


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=80) | st.text(st.sampled_from("the hello ab.\nÉ북"), max_size=200))
def test_any_text_equals_numpy_over_the_twins_pieces(pieces, arrays, text):
    np.testing.assert_allclose(make(pieces, arrays).embed(text), expect(pieces, arrays, text), atol=2e-6)


@pytest.mark.parametrize("text", ["hello", "the hello unaffable", "北 é"])
def test_a_text_with_a_piece_has_length_one(pieces, arrays, text):
    assert np.linalg.norm(make(pieces, arrays).embed(text)) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("text", ["", " \n", "\0", b"\xff\xfe", "ก", "a" * 101], ids=repr)
def test_a_text_without_a_known_piece_is_all_zeros(pieces, arrays, text):
    assert not make(pieces, arrays).embed(text).any()


def test_unknown_words_change_nothing(pieces, arrays):
    made = make(pieces, arrays)
    np.testing.assert_array_equal(made.embed("hello กก world กข"), made.embed("hello world"))


def test_a_word_met_again_counts_once(pieces, arrays):
    made = make(pieces, arrays)
    np.testing.assert_array_equal(made.embed("hello world hello hello"), made.embed("hello world"))


@pytest.mark.parametrize("most_mass", [0.1, 3.0, 10.0])
def test_pieces_are_added_until_their_masses_reach_the_bound(pieces, arrays, most_mass):
    text = "the hello world run un them theme 1 2 3 4"
    found = make(pieces, arrays, most_mass=most_mass).embed(text)
    np.testing.assert_allclose(found, expect(pieces, arrays, text, most_mass), atol=2e-6)
    assert not np.allclose(found, expect(pieces, arrays, text), atol=1e-3)


def test_pieces_without_mass_take_no_room(pieces, arrays):
    made = make(pieces, arrays, most_mass=0.1)  # one piece fills it
    np.testing.assert_array_equal(made.embed("ก ข ค hello world"), made.embed("hello"))


@pytest.mark.parametrize("cut", range(4, 9))
def test_bytes_behind_the_bound_are_not_read_and_a_character_cut_there_is_dropped(pieces, arrays, cut):
    text = "the é北 hello world"
    found = make(pieces, arrays, most_bytes=cut).embed(text)
    np.testing.assert_allclose(found, expect(pieces, arrays, text, most_bytes=cut), atol=2e-6)


def test_a_text_of_a_hundred_megabytes_costs_no_more_than_its_first_bytes(pieces, arrays):
    made = make(pieces, arrays, most_bytes=4096)
    text = b"hello world " * (100 << 20 >> 4)
    np.testing.assert_array_equal(made.embed(text), made.embed(text[:4096]))


def test_a_batch_equals_its_texts_one_by_one(pieces, arrays):
    made = make(pieces, arrays)
    batch = made.embed_batch(TEXTS)
    assert batch.shape == (len(TEXTS), 128)
    for row, text in zip(batch, TEXTS, strict=True):
        np.testing.assert_array_equal(row, made.embed(text))
    assert made.embed_batch([]).shape == (0, 128)


def test_one_embedder_serves_many_threads(pieces, arrays):
    made = make(pieces, arrays)
    texts = [f"{text} {i} " * (1 + i % 7) for i in range(40) for text in ("run", "北 unaffable", "x")]
    alone = made.embed_batch(texts)
    wrong = []

    def work(start):
        for i in range(len(texts) * 3):
            at = (start + i) % len(texts)
            if not np.array_equal(made.embed(texts[at]), alone[at]):
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(17 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rows": lambda r, s: r[:-1]}, r"rows: expected int8 \[\d+, columns\], got int8 \[\d+, 128\]"),
        ({"rows": lambda r, s: r.astype(np.float32)}, r"rows: expected int8 .* got float32"),
        ({"rows": lambda r, s: r[:, 0]}, r"rows: expected int8 \[\d+, columns\], got int8 \[\d+\]"),
        ({"rows": lambda r, s: r[:, :48].copy()}, "rows: expected a multiple of 64 columns, at most 256, got 48"),
        ({"scales": lambda r, s: s[:-1]}, r"scales: expected float32 \[\d+\], got float32 \[\d+\]"),
        ({"scales": lambda r, s: s.astype(np.float64)}, r"scales: expected float32 .* got float64"),
        ({"most_mass": lambda r, s: 0.0}, "most_mass: expected a finite number above 0, got 0.0"),
        ({"most_mass": lambda r, s: math.nan}, "most_mass: expected a finite number above 0, got nan"),
        ({"isa": lambda r, s: "mmx"}, "isa: this machine can run .*portable, got 'mmx'"),
    ],
)
def test_refused_arrays(pieces, arrays, change, message):
    given = {"rows": arrays[0], "scales": arrays[1], **NO_BOUND} | {
        k: make_it(*arrays) for k, make_it in change.items()
    }
    with pytest.raises(ValueError, match=message):
        Embedder(pieces.encoder, given.pop("rows"), given.pop("scales"), **given)


def test_an_encoder_of_other_rows_is_refused(model, arrays):
    with pytest.raises(ValueError, match=r"encoder: expected WordPieces only, got \d+ rows of other groups"):
        Embedder(Encoder(model.spec, model.vocab), *arrays, **NO_BOUND)


@pytest.mark.parametrize("text", [None, 1, ["hello"]])
def test_what_is_no_text_is_refused(pieces, arrays, text):
    made = make(pieces, arrays)
    for call in (made.embed, lambda bad: made.embed_batch(["hello", bad])):
        with pytest.raises(TypeError, match=f"text: expected `str` or `bytes`, got `{type(text).__name__}`"):
            call(text)
