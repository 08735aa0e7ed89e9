"""The example of a method of one's own, found by its entry points as an installed package is."""

import json
import sys
import tomllib
from pathlib import Path

import pytest

from router import heads
from router.cli.main import main
from router.heads import Claim
from router.learn import routers


@pytest.fixture
def installed(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `pip install ./examples/plugin` leaves: the module, and its metadata."""
    source = root / "examples" / "plugin"
    project = tomllib.loads((source / "pyproject.toml").read_text())["project"]
    info = tmp_path / f"headgate_by_length-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    groups = project["entry-points"].items()
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in points.items()) for group, points in groups
    ]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (tmp_path / "by_length.py").write_text((source / "by_length.py").read_text())
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "by_length", raising=False)


@pytest.mark.usefixtures("installed")
def test_is_trained_and_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "by_length" in routers.names()
    table = tmp_path / "labels.jsonl"
    rows = [
        {"prompt": "word " * n + str(i), "model": model, "score": float(model == "big" or n < 20)}
        for n in range(1, 41)
        for i in range(3)
        for model in ("small", "big")
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out = tmp_path / "router.safetensors"
    assert main(["train", str(table), "--router", "by_length", "--out", str(out), "--folds", "3", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["router"] == "by_length"
    assert said["held_out"][0]["figures"]["apgr"] > 0.7
    head = heads.load(out, [Claim(name="small"), Claim(name="big")])
    short, long = head.score_many(["word", "word " * 40])
    assert short[0] > 0.6 > 0.4 > long[0]
    assert head.score((("word", 1.0),)).quality == pytest.approx(short.tolist())


@pytest.mark.usefixtures("installed")
def test_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--list-routers"])
    assert "by_length    plug-in by_length:LengthTrainer" in capsys.readouterr().out
