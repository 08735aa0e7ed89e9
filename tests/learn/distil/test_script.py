"""The script, with a small made encoder in the place of the real one: its file is read, and gives alike texts alike."""

import json

import numpy as np
import pytest

from router.features import static
from router.learn.distil import __main__ as script

TOKENS = ["[PAD]", "[UNK]", *"abcdefgh", *(f"##{c}" for c in "abcdefgh"), "cat", "dog", "law", "court"]
ANIMALS, LAW = ("cat", "dog"), ("law", "court")


@pytest.fixture
def small_encoder(monkeypatch):
    """Two places of its 384 directions: one for each subject."""
    draw = np.random.default_rng(0)
    asked = []

    def taught(texts, kept, tell):
        asked.extend(texts)
        out = draw.normal(0, 0.01, (len(texts), 384)).astype(np.float32)
        for i, text in enumerate(texts):
            out[i, 0 if any(word in text for word in ANIMALS) else 1] += 1
        return out / np.linalg.norm(out, axis=1, keepdims=True)

    monkeypatch.setattr(script, "taught", taught)
    monkeypatch.setattr(script, "vocabulary", lambda: TOKENS)
    monkeypatch.setattr(script, "embed_pieces", lambda: draw.normal(0, 1, (len(TOKENS), 384)).astype(np.float32))
    return asked


@pytest.fixture
def table(tmp_path):
    draw, path = np.random.default_rng(1), tmp_path / "labels.jsonl"
    rows = []
    for i in range(400):
        words = draw.choice((ANIMALS, LAW)[i % 2], 3)
        rows.append(
            {"prompt": f"{' '.join(words)} {' '.join(draw.choice(list('abcdefgh'), 3))}", "model": "m", "score": 1}
        )
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def test_the_script_writes_a_file_that_puts_texts_of_one_subject_together(small_encoder, table, tmp_path, capsys):
    out = tmp_path / "made.safetensors"
    script.main([str(table), "--out", str(out), "--columns", "64", "--most", "300"])
    made = static.read(out)
    cat, dog, law = made.embed_batch(["cat a", "dog b", "court c"])
    assert cat @ dog > 0.5 > cat @ law
    assert made.columns == 64
    assert 200 < made.meta.figures["prompts"] <= 300
    assert len(small_encoder) == made.meta.figures["prompts"]
    assert made.meta.figures["cosine"] > made.meta.figures["start_cosine"]
    flags = "--columns 64 --most 300 --most-chars 2000 --bytes 8000000"
    assert made.meta.recipe == f"python -m router.learn.distil labels.jsonl {flags}"
    assert made.meta.encoder.pieces == len(TOKENS) - 1  # all that a text can have
    assert [(d.name, d.rows) for d in made.meta.data] == [("labels.jsonl", 400)]
    assert "cosine to the encoder" in capsys.readouterr().err


def test_the_encoders_vectors_are_kept_where_a_folder_is_named(small_encoder, table, tmp_path, monkeypatch):
    arguments = [str(table), "--columns", "64", "--keep", str(tmp_path / "kept")]
    script.main([*arguments, "--out", str(tmp_path / "one.safetensors")])
    assert (tmp_path / "kept" / "pieces.npy").exists()
    monkeypatch.setattr(script, "embed_pieces", lambda: pytest.fail("asked again"))
    script.main([*arguments, "--out", str(tmp_path / "two.safetensors")])


def test_a_file_is_no_larger_than_it_may_be_and_says_what_was_left_out(
    small_encoder, table, tmp_path, monkeypatch, capsys
):
    tokens = [*TOKENS, *(f"unmet{i}" for i in range(100))]
    vectors = np.random.default_rng(0).normal(0, 1, (len(tokens), 384)).astype(np.float32)
    monkeypatch.setattr(script, "vocabulary", lambda: tokens)
    monkeypatch.setattr(script, "embed_pieces", lambda: vectors)
    out = tmp_path / "made.safetensors"
    script.main([str(table), "--out", str(out), "--columns", "64", "--most", "300", "--bytes", "9000"])
    assert out.stat().st_size <= 9000
    pieces = static.read(out).meta.encoder.pieces
    assert len(TOKENS) - 1 <= pieces < len(tokens) - 1
    assert f"{pieces} pieces ({len(tokens) - 1 - pieces} of the least used left out)" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["0", "-1", "8MB", "99999999999", ""])
def test_a_bound_that_is_no_number_of_bytes_is_refused(text, table, tmp_path, capsys):
    with pytest.raises(SystemExit):
        script.main([str(table), "--out", str(tmp_path / "made"), f"--bytes={text}"])
    assert f"expected a number of bytes from 1 to 1073741824, got {text!r}" in capsys.readouterr().err
