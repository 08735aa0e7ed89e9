"""A new model is fitted from a few labels, and nothing else moves."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from router import heads
from router.artefacts.artefact import FORMAT, Metadata, ModelRecord
from router.cli.main import main
from router.errors import ConfigError
from router.heads import Artefact, Claim, checkpoint
from router.heads.curves import X, Y
from router.learn.fit import add_model
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab

TOKENS = ["[UNK]", "sum", "law", "[unused]"]
STRENGTHS = np.linspace(0.2, 0.7, 12)


def base(strengths: bool = True, models: int = 12, **more: Any) -> Artefact:
    """Two pieces make two hidden columns. Stronger models have a higher bias, and a vector that turns from `law`."""
    vocab, longest = build_vocab(TOKENS)
    spec = EncoderSpec(pieces=len(TOKENS), unk=0, max_piece=longest, word_rows=0)
    table = np.zeros((spec.rows, 16), np.float16)
    table[1, 0], table[2, 1] = 1, 1
    noise = np.random.default_rng(0).normal(0, 0.3, (12, 16))
    vectors = (noise + np.pad(np.stack([STRENGTHS, 1 - STRENGTHS], 1), ((0, 0), (0, 14)))).astype(np.float32)
    records = tuple(
        ModelRecord(name=f"m{i}", strength=float(s) if strengths else None, prompts=9) for i, s in enumerate(STRENGTHS)
    )
    arrays = {
        "table": table,
        "vocab": vocab,
        "vectors": vectors[:models],
        "bias": (4 * STRENGTHS - 2).astype("f4")[:models],
    }
    meta = Metadata(format=FORMAT, encoder=spec, models=records[:models], recipe="headgate train x.jsonl", **more)
    return Artefact(meta=meta, arrays=arrays)


def answers(count: int, quality: tuple[float, float], seed: int = 0) -> tuple[list[str], Any]:
    """Texts of one word, and scores that are right so often on `sum` and on `law`."""
    rng = np.random.default_rng(seed)
    kinds = rng.integers(0, 2, count)
    return [("sum", "law")[kind] for kind in kinds], (rng.random(count) < np.take(quality, kinds)).astype(np.float32)


def said(artefact: Artefact, name: str) -> list[float]:
    head = heads.make(artefact, [Claim(name=name, like=name)])
    return [float(quality) for quality in head.score_many(["sum", "law"])[:, 0]]


def test_many_labels_speak_for_themselves() -> None:
    made, judged = add_model.add(base(), "org/New", *answers(2000, (0.9, 0.2)))
    assert said(made, "new") == pytest.approx([0.9, 0.2], abs=0.06)
    assert judged.added < judged.constant
    assert judged.added < judged.placed


def test_nothing_else_moves() -> None:
    before = base()
    made, _ = add_model.add(before, "new", *answers(16, (0.5, 0.5)), strength=0.4)
    assert np.array_equal(made.arrays["vectors"][:-1], before.arrays["vectors"])
    assert np.array_equal(made.arrays["bias"][:-1], before.arrays["bias"])
    assert made.arrays["table"] is before.arrays["table"]
    assert made.meta.models[:-1] == before.meta.models
    assert made.meta.models[-1] == ModelRecord(name="new", strength=0.4, prompts=16)
    for name in ("m0", "m11"):
        assert said(made, name) == said(before, name)


def test_without_labels_a_model_stands_at_its_strength() -> None:
    own = checkpoint.of(base())
    none = np.zeros((0, 17)), np.zeros(0)
    placed = heads.make(base(), [Claim(name="new", strength=0.6)])
    at = add_model.fit(*none, add_model.priors(own, 0.6))
    quality = 1 / (1 + np.exp(-add_model.hidden(own, ["sum", "law"]) @ at))
    assert quality == pytest.approx(placed.score_many(["sum", "law"])[:, 0], abs=1e-3)


def test_labels_tell_the_strength_that_is_not_told() -> None:
    """It was asked for sums only; that strong models know more law is known from the others."""
    strong, _ = add_model.add(base(), "new", ["sum"] * 32, np.ones(32, np.float32))
    weak, _ = add_model.add(base(), "new", ["sum"] * 32, np.zeros(32, np.float32))
    assert said(strong, "new")[0] > 0.75
    assert said(weak, "new")[0] < 0.25
    assert said(strong, "new")[1] > said(weak, "new")[1] + 0.2


def test_few_labels_cannot_push_a_known_strength_far() -> None:
    lucky, _ = add_model.add(base(), "new", *answers(4, (1.0, 1.0)), strength=0.3)
    assert said(lucky, "new") == pytest.approx(said(base(), "m2"), abs=0.2)


@pytest.mark.parametrize("models", [1, 2, 5])
def test_few_references_without_strengths(models: int) -> None:
    made, _ = add_model.add(base(strengths=False, models=models), "new", *answers(2000, (0.8, 0.3)))
    assert said(made, "new") == pytest.approx([0.8, 0.3], abs=0.06)


def test_curves_of_the_others_stay_and_the_new_one_has_a_straight_one() -> None:
    before = base(calibration="isotonic")
    bent = np.tile(np.array([-3, 0, 1], np.float32), (12, 1))
    before = msgspec.structs.replace(before, arrays={**before.arrays, X: bent, Y: bent * 2})
    made, _ = add_model.add(before, "new", *answers(2000, (0.9, 0.2)))
    assert said(made, "new") == pytest.approx([0.9, 0.2], abs=0.06)
    assert said(made, "m3") == said(before, "m3")


def test_scores_may_be_partial_and_alike() -> None:
    for score in (0.0, 0.3, 1.0):
        made, judged = add_model.add(base(), "new", ["sum"] * 20, np.full(20, score, np.float32))
        assert np.isfinite(made.arrays["vectors"]).all()
        assert abs(said(made, "new")[0] - score) < 0.3
        assert judged.constant == pytest.approx(0, abs=1e-6)
    made, _ = add_model.add(base(), "new", ["sum"], np.ones(1, np.float32))
    assert 0 < said(made, "new")[0] < 1


def test_bases_that_cannot_grow() -> None:
    texts, scores = answers(4, (1, 1))
    with pytest.raises(ConfigError, match="--add-model: 'm3' is in <memory> already; train anew to change it"):
        add_model.add(base(), "M3", texts, scores)
    other = msgspec.structs.replace(base(), meta=msgspec.structs.replace(base().meta, router="knn"))
    with pytest.raises(ConfigError, match="router: expected mf, whose models are vectors; got knn"):
        add_model.add(other, "new", texts, scores)


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path, Path]:
    """A base, a table with labels of `new`, and where to write."""
    heads.write(tmp_path / "base.safetensors", base())
    rows = [{"prompt": f"sum {i}", "model": "Org/New", "score": i % 2} for i in range(20)]
    (tmp_path / "few.jsonl").write_bytes(msgspec.json.Encoder().encode_lines(rows))
    return tmp_path / "base.safetensors", tmp_path / "few.jsonl", tmp_path / "new.safetensors"


def test_the_command(files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    start, table, out = files
    asked = ["train", str(table), "--add-model", "Org/New", "--base", str(start), "--out", str(out)]
    assert main(asked) == 0
    assert f"{out}: 13 models; new added from 20 labels" in capsys.readouterr().out
    meta = heads.read(out).meta
    assert meta.recipe == "headgate train x.jsonl; headgate train few.jsonl --add-model Org/New --base base.safetensors"
    assert [(one.name, one.rows) for one in meta.data] == [("few.jsonl", 20)]
    assert heads.load(out, [Claim(name="new")]).placements[0].by == "name"
    assert main([*asked, "--strength", "0.5", "--json"]) == 0
    report = msgspec.json.decode(capsys.readouterr().out, type=add_model.Added)
    assert (report.labels, report.strength, report.seen) == (20, 0.5, False)
    assert main([*asked[:3], "other", "--base", str(out), "--out", str(out)]) == 2
    table.write_bytes(table.read_bytes() + b'{"prompt": "law", "model": "other", "score": 1}\n')
    assert main([*asked, "--json"]) == 0
    again = ["train", str(table), "--add-model", "other", "--base", str(out), "--out", str(out)]
    assert main(again) == 0
    assert "The base was trained on this table's prompts: these figures are too good" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--add-model", "new"], "--add-model: expected --base CHECKPOINT beside it"),
        (["--base", "default"], "--base: expected --add-model NAME beside it"),
        (["--strength", "0.5"], "--strength: expected --add-model NAME beside it"),
        (["--add-model", "new", "--base", "{base}", "--strength", "50"], "--strength: expected 0 to 1, got 50"),
        (["--add-model", "new", "--base", "{base}", "--router", "knn"], "--add-model: takes neither --router nor"),
        (["--add-model", "old", "--base", "{base}"], "--add-model: expected one of new, the tables' models; got 'old'"),
        (["--add-model", "m1", "--base", "{base}"], "--add-model: 'm1' is in "),
        (["--add-model", "new", "--base", "/nowhere"], "/nowhere"),
    ],
)
def test_refuses_in_one_line(
    files: tuple[Path, Path, Path], capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    start, table, out = files
    asked = ["train", str(table), "--out", str(out), *(one.format(base=start) for one in arguments)]
    assert main(asked) == 2
    assert message in capsys.readouterr().err
    assert not out.exists()
