"""Quality from the native call: every instruction set against the twin, many threads, anything as input."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.native import scorer, twin
from router.native.scorer import Encoder, Scorer

TEXTS = [
    "",
    "hello world",
    "Unaffable theme, running? {x: 1}\n" * 5,
    "x\ud800y",
    "ภาษาไทย 北京 مرحبا 👩‍👩‍👧",
    b"\xff\x00\xe5\x8c",
]
ANY_ISA = pytest.mark.parametrize("isa", scorer.isas())


def make(model, isa=None):
    return Scorer(model.encoder, model.table, model.vectors, model.bias, isa)


def expect(model, segments):
    return twin.score(segments, model.vocab, model.spec, model.table, model.vectors, model.bias)


def test_the_extension_is_native():
    """A pure Python module of the same name would pass all else, a thousand times slower."""
    assert scorer.__file__.endswith(".so")
    assert type(Scorer.score).__name__ in ("method_descriptor", "cython_function_or_method")


def test_isas_end_with_portable():
    assert scorer.isas()[-1] == "portable"


@ANY_ISA
@pytest.mark.parametrize("columns", [16, 32, 48, 80])
@pytest.mark.parametrize("text", TEXTS, ids=range(len(TEXTS)))
def test_equals_the_twin(make_model, isa, columns, text):
    model = make_model(columns=columns, models=5)
    native = make(model, isa)
    assert native.isa == isa
    quality, pieces = native.score([(text, 1.0)])
    expected, expected_pieces = expect(model, [(text, 1.0)])
    assert pieces == expected_pieces
    np.testing.assert_allclose(quality, expected, rtol=3e-5, atol=1e-7)


@settings(max_examples=100, deadline=None)
@given(
    segments=st.lists(
        st.tuples(st.text(st.sampled_from("the hello ab.\nÉ북"), max_size=60), st.sampled_from([0.0, 0.1, 0.5, 1.0])),
        max_size=5,
    )
)
def test_conversations_equal_the_twin(model, segments):
    quality, pieces = make(model).score(segments)
    expected, expected_pieces = expect(model, segments)
    assert pieces == expected_pieces
    np.testing.assert_allclose(quality, expected, rtol=3e-5, atol=1e-7)


@ANY_ISA
def test_halves_of_all_sizes(make_model, isa):
    """Subnormal, largest and negative halves are widened exactly."""
    model = make_model(word_rows=0, char_rows=0, shape_rows=0)
    special = np.array([6e-8, -6e-8, 5e-5, 6.1e-5, 65504, -65504, 0.0, -0.0], np.float16)
    model.table[:] = np.resize(special, model.table.shape)
    hidden = make(model, isa).hidden([("the", 1.0)])
    np.testing.assert_array_equal(hidden, model.table[0].astype(np.float32))


@ANY_ISA
def test_isas_agree_on_a_long_text(make_model, isa):
    model = make_model(char_cap=16.0)
    text = " ".join(f"word{i} the" for i in range(5_000))
    quality, _ = make(model, isa).score([(text, 1.0)])
    np.testing.assert_allclose(quality, expect(model, [(text, 1.0)])[0], rtol=1e-4)


def test_weights_are_relative(model):
    native = make(model)
    one = native.score([("hello", 1.0), ("the end", 0.5)])
    assert native.score([("hello", 2.0), ("the end", 1.0)])[0] == pytest.approx(one[0], rel=1e-6)


def test_no_weight_leaves_the_biases(model):
    expected = 1 / (1 + np.exp(-model.bias))
    for segments in ([], [("hello", 0.0)]):
        assert make(model).score(segments)[0] == pytest.approx(expected, rel=1e-6)


def test_batch_equals_single(model):
    native = make(model)
    batch = native.score_batch(TEXTS)
    assert batch.shape == (len(TEXTS), 3)
    assert batch.dtype == np.float32
    for row, text in zip(batch, TEXTS, strict=True):
        assert tuple(row) == native.score([(text, 1.0)])[0]


@pytest.mark.parametrize(
    "text",
    [
        "a" * 1_000_000,
        "\n" * 1_000_000,
        "\0" * 1_000_000,
        "ก" * 300_000,
        "a." * 500_000,
        "\ud800" * 1_000,
        "é" * 500_000,
    ],
    ids=["one word", "newlines", "NULs", "Thai", "dots", "surrogates", "accents"],
)
def test_large_texts(model, text):
    quality, _ = make(model).score([(text, 1.0)])
    assert all(0 <= q <= 1 for q in quality)


def test_extreme_logits_stay_in_range(make_model):
    model = make_model()
    model.bias[:] = [1e30, -1e30, 100]
    assert make(model).score([("hello", 1.0)])[0] == (1.0, 0.0, 1.0)


def test_one_scorer_many_threads(model):
    native = make(model)
    jobs = [
        [(f"{text} {i} " * (1 + i % 7), 1.0), ("the system", 0.1)]
        for i in range(40)
        for text in ("run", "北 unaffable", "x")
    ]
    alone = [native.score(job) for job in jobs]
    wrong = []

    def work(start):
        for i in range(len(jobs) * 5):
            at = (start + i) % len(jobs)
            if native.score(jobs[at]) != alone[at]:
                wrong.append(at)

    threads = [threading.Thread(target=work, args=(17 * n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_read_only_arrays_are_taken(model):
    table, vectors = model.table.copy(), model.vectors.copy()
    table.flags.writeable = vectors.flags.writeable = False
    assert Scorer(model.encoder, table, vectors, model.bias).score([("a", 1.0)]) == make(model).score([("a", 1.0)])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": lambda m: m.table[:-1]}, r"table: expected float16 \[\d+, 32\], got float16 \[\d+, 32\]"),
        ({"table": lambda m: m.table.astype(np.float32)}, r"table: expected float16 .* got float32"),
        (
            {"vectors": lambda m: np.zeros((3, 20), np.float32)},
            "vectors: expected a multiple of 16 columns, at most 256, got 20",
        ),
        ({"bias": lambda m: m.bias[:2].copy()}, r"bias: expected \[3\] of at least 1, got \[2\]"),
        ({"isa": lambda m: "mmx"}, "isa: this machine can run .*portable, got 'mmx'"),
    ],
)
def test_refused_arrays(model, change, message):
    arrays = {"table": model.table, "vectors": model.vectors, "bias": model.bias, "isa": None}
    arrays |= {name: make_it(model) for name, make_it in change.items()}
    if "vectors" in change:
        arrays["table"] = np.zeros((model.spec.rows, 20), np.float16)
    with pytest.raises(ValueError, match=message):
        Scorer(model.encoder, **arrays)


@pytest.mark.parametrize(
    ("vocab", "message"),
    [
        (np.zeros(3, np.uint64), "vocab: expected a power of two of slots, got 3"),
        (np.zeros(4, np.uint64), "vocab: expected at least one empty slot, got none"),
        (np.array([~np.uint64(0), 5000], np.uint64), r"vocab: expected ids below \d+, got 5000"),
    ],
)
def test_refused_vocabularies(model, vocab, message):
    with pytest.raises(ValueError, match=message):
        Encoder(model.spec, vocab)


@pytest.mark.parametrize(
    ("segments", "error", "message"),
    [
        ([("a", -1.0)], ValueError, "segments: expected weights from 0 to 1e9, got -1.0"),
        ([("a", float("nan"))], ValueError, "segments: expected weights from 0 to 1e9, got nan"),
        ([(None, 1.0)], TypeError, "text: expected `str` or `bytes`, got `NoneType`"),
        ([["a", 1.0]], TypeError, "segments: expected tuples of text and weight, got `list`"),
        (["ab"], TypeError, "segments: expected tuples of text and weight, got `str`"),
    ],
)
def test_refused_segments(model, segments, error, message):
    with pytest.raises(error, match=message):
        make(model).score(segments)
