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


@pytest.mark.parametrize("router", ["knn", "rules", "random"])
def test_another_method(router: str, table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "x.safetensors"
    asked = ["train", str(table), "--out", str(out), "--size", "small", "--folds", "2", "--router", router, "--json"]
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["router"] == router
    meta = heads.read(out).meta
    assert (meta.router, meta.calibration) == (router, "none" if router == "random" else "platt")
    assert meta.recipe == f"headgate train sums.jsonl --size small --folds 2 --router {router}"
    assert list(meta.figures) == ["sums.jsonl:tiny->big:apgr"]


def test_options_of_a_method(table: Path, tmp_path: Path) -> None:
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: riddle, words: [riddle], points: -1}\n  - {name: long, longer: 30}\n")
    out = tmp_path / "x.safetensors"
    asked = ["train", str(table), "--out", str(out), "--folds", "2", "--router", "rules", "--rules", str(rules)]
    assert main([*asked, "--option", "learn=nothing"]) == 0
    meta = heads.read(out).meta
    assert [rule["name"] for rule in meta.options["rules"]] == ["riddle", "long"]
    assert meta.options["learn"] == "nothing"
    assert meta.recipe.endswith("--router rules --option learn=nothing --rules rules.yaml")


def test_lists_the_methods(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--list-routers"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("mf           matrix factorisation")
    assert {"knn", "sw_ranking", "mlp", "rules", "random", "oracle", "ensemble"} < {line.split()[0] for line in lines}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--router", "knnn"], "--router: expected one of mf, knn, "),
        (["--router", "oracle"], "--router oracle: it knows the answers, so there is nothing to train"),
        (["--router", "knn", "--option", "neighbours"], "--option: expected KEY=VALUE, got 'neighbours'"),
        (["--router", "knn", "--option", "neighbours=["], "--option neighbours: expected YAML or JSON"),
        (["--router", "knn", "--option", "neighbours=many"], "--router knn: option Expected `int`, got `str`"),
        (["--router", "knn", "--rules", "x"], "--rules: expected --router rules beside it, got knn"),
        (["--router", "rules", "--rules", "/nowhere"], "/nowhere: cannot be read: No such file"),
    ],
)
def test_refuses_a_method(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(["train", str(table), "--out", str(tmp_path / "x"), "--size", "small", *arguments]) == 2
    assert message in capsys.readouterr().err
