"""The static embedding's file comes back as it was written; a bad one is refused with its name, the key and what was
expected. What the packaged file gives is near to what it was made for."""

import msgspec
import numpy as np
import pytest

from router.artefacts import tensors
from router.errors import ConfigError
from router.features import static
from router.features.static import StaticEmbedding, StaticMetadata
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab

TOKENS = ["[UNK]", "hello", "world", "##s", "sum"]


def made(**changes):
    vocab, longest = build_vocab(TOKENS)
    spec = EncoderSpec(pieces=len(TOKENS), unk=0, max_piece=longest, word_rows=0, shape_rows=0)
    meta = StaticMetadata(encoder=spec, most_mass=50.0, most_bytes=4096, source="made here")
    rows = np.random.default_rng(0).integers(-127, 128, (len(TOKENS), 64)).astype(np.int8)
    return msgspec.structs.replace(meta, **changes), {
        "rows": rows,
        "scales": np.full(len(TOKENS), 0.01, np.float32),
        "vocab": vocab,
    }


@pytest.fixture
def path(tmp_path):
    found = tmp_path / "embedding.safetensors"
    static.write(found, *made())
    return found


def rewrite(path, change_meta=None, change_arrays=None):
    """As another program might write it: unchecked."""
    text, arrays = tensors.read(path)
    meta, arrays = msgspec.json.decode(text), {name: array.copy() for name, array in arrays.items()}
    if change_meta:
        change_meta(meta)
    if change_arrays:
        change_arrays(arrays)
    tensors.write(path, msgspec.json.encode(meta).decode(), arrays)


def test_a_file_gives_what_it_was_made_of(path):
    meta, arrays = made()
    found = static.read(path)
    assert found.meta == meta
    assert found.columns == 64
    for text in ("hello worlds", "sum"):
        np.testing.assert_array_equal(found.embed(text), StaticEmbedding(meta, arrays).embed(text))
    np.testing.assert_array_equal(found.embed_batch(["sum", b"hello"])[1], found.embed("hello"))


def set_to(key, value):
    return lambda found: found.__setitem__(key, value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (set_to("kind", "router"), "kind: expected 'static_embedding', got 'router'"),
        (lambda meta: meta.pop("kind"), "kind: expected 'static_embedding', got None"),
        (set_to("format", 2), "format: expected version 1, got 2"),
        (set_to("most_mass", 0), "most_mass: expected a number above 0 and at most 1e9, got 0"),
        (set_to("most_bytes", 0), "most_bytes: expected 1 to 1048576, got 0"),
        (set_to("most_bytes", 1 << 30), "most_bytes: expected 1 to 1048576, got 1073741824"),
        (set_to("most_mass", "much"), "__metadata__.headgate: Expected `float`, got `str`"),
        (lambda meta: meta["encoder"].update(unk=99), "encoder.unk: expected an id below 5, got 99"),
        (lambda meta: meta["encoder"].update(word_rows=64), "encoder: expected WordPieces only, got 64 rows"),
    ],
)
def test_bad_metadata_is_refused_by_path_and_key(path, change, message):
    rewrite(path, change_meta=change)
    with pytest.raises(ConfigError) as refused:
        static.read(path)
    assert str(path) in str(refused.value)
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.pop("scales"), "scales: expected this tensor, got ['rows', 'vocab']"),
        (set_to("rows", np.zeros((5, 64), np.float32)), "rows: expected int8 of 2 dimensions, got float32 [5, 64]"),
        (set_to("rows", np.zeros((4, 64), np.int8)), "rows: expected int8 [5, columns], got int8 [4, 64]"),
        (set_to("rows", np.zeros((5, 65), np.int8)), "rows: expected a multiple of 64 columns, at most 256, got 65"),
        (set_to("scales", np.full(5, np.nan, np.float32)), "scales: expected finite numbers, got an infinity or NaN"),
        (
            set_to("scales", np.zeros((5, 1), np.float32)),
            "scales: expected float32 of 1 dimensions, got float32 [5, 1]",
        ),
        (set_to("vocab", np.zeros(8, np.uint64)), "vocab: expected at least one empty slot, got none"),
        (set_to("vocab", np.full(6, ~np.uint64(0))), "vocab: expected a power of two of slots, got 6"),
    ],
)
def test_bad_tensors_are_refused_by_path_and_name(path, change, message):
    rewrite(path, change_arrays=change)
    with pytest.raises(ConfigError) as refused:
        static.read(path)
    assert str(path) in str(refused.value)
    assert message in str(refused.value)


def test_a_routers_checkpoint_is_refused(root):
    with pytest.raises(ConfigError, match=r"default.safetensors: kind: expected 'static_embedding', got None"):
        static.read(root / "router" / "checkpoints" / "default.safetensors")


def test_a_file_cut_short_is_refused(path):
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(ConfigError, match="truncated"):
        static.read(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"none.safetensors: cannot be read: No such file"):
        static.read(tmp_path / "none.safetensors")


def test_what_would_be_refused_is_not_written(tmp_path):
    meta, arrays = made(most_mass=-1.0)
    with pytest.raises(ConfigError, match="most_mass"):
        static.write(tmp_path / "bad.safetensors", meta, arrays)
    assert not (tmp_path / "bad.safetensors").exists()


# The packaged file


@pytest.fixture(scope="module")
def packaged():
    return static.read()


def test_the_packaged_file_has_256_columns_and_at_most_8_million_bytes(packaged):
    assert packaged.columns == 256
    assert static.DEFAULT.stat().st_size <= 8_000_000
    assert "all-MiniLM-L6-v2" in packaged.meta.source
    assert packaged.meta.licence == "Apache-2.0"


ALIKE = [
    (
        "How do I sort a list in Python?",
        "python code that orders the elements of an array",
        "Who painted the Mona Lisa?",
    ),
    ("What is the capital of France?", "Which city is the seat of France's government?", "Solve x + 3 = 7 for x."),
    ("The patient has a fever and a cough.", "symptoms of an infection of the lungs", "a contract between two parties"),
]


@pytest.mark.parametrize("texts", ALIKE, ids=[texts[0] for texts in ALIKE])
def test_texts_of_one_subject_are_nearer_than_texts_of_two(packaged, texts):
    one, other, apart = packaged.embed_batch(texts)
    assert one @ other > one @ apart + 0.05


@pytest.mark.parametrize("text", ["hello", "naïve café", "北京", "x = {1: 2}", "the", "a" * 99 + " z"])
def test_words_of_any_kind_have_length_one(packaged, text):
    assert np.linalg.norm(packaged.embed(text)) == pytest.approx(1, abs=1e-5)


def test_a_long_text_is_read_up_to_its_bounds(packaged):
    words = " ".join(f"word{i} number{i * 7}" for i in range(20_000))
    head = words.encode()[: packaged.meta.most_bytes]
    np.testing.assert_array_equal(packaged.embed(words), packaged.embed(head))
