"""`headgate train` as a user types it."""

import json
from pathlib import Path

import pytest

from router import heads
from router.cli.main import main
from router.heads import Claim, checkpoint


def test_prints_held_out_figures(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sums.safetensors"
    assert main(["train", str(table), "--out", str(out), "--size", "small", "--folds", "3"]) == 0
    said = capsys.readouterr().out
    assert "tiny -> big (sums.jsonl, 390 prompts): APGR 0." in said
    assert "390 prompts, 2 models" in said
    assert checkpoint.read(out).meta.recipe == "headgate train sums.jsonl --size small --folds 3"


def test_json_is_one_object(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sums.safetensors"
    asked = ["train", str(table), "--out", str(out), "--size", "small", "--pair", "Tiny,Big", "--seed", "3", "--json"]
    assert main(asked) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["held_out"][0]["strong"] == "big"
    assert 0.5 < said["held_out"][0]["figures"]["apgr"] <= 1.2
    assert checkpoint.read(out).meta.recipe.endswith("--seed 3")


@pytest.mark.parametrize("method", ["platt", "isotonic", "none"])
def test_quality_is_calibrated_as_asked(table: Path, tmp_path: Path, method: str) -> None:
    out = tmp_path / "sums.safetensors"
    asked = ["train", str(table), "--out", str(out), "--size", "small", "--folds", "3", "--calibration", method]
    assert main([*asked, "--json"]) == 0
    made = heads.read(out)
    assert made.meta.calibration == method
    assert made.meta.recipe.endswith("" if method == "platt" else f"--calibration {method}")
    assert ("calibration.x" in made.arrays) == (method == "isotonic")
    quality = heads.load(out, [Claim(name="tiny"), Claim(name="big")]).score_many(["What is 1 + 2?"])[0]
    assert (quality > 0.8).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--pair", "tiny"], "--pair: expected WEAK,STRONG, got 'tiny'"),
        (["--pair", "tiny,huge"], "--pair: expected two of tiny, big; got 'huge'"),
    ],
)
def test_refuses_in_one_line(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["train", str(table), "--out", str(tmp_path / "x.safetensors"), "--size", "small", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_refuses_a_broken_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text('{"prompt": "a", "model": "m", "score": 2}\n')
    assert main(["train", str(path), "--out", str(tmp_path / "x.safetensors")]) == 2
    assert f"{path}:1: score: expected a number from 0 to 1, got 2" in capsys.readouterr().err
