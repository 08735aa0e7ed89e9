"""The bench of growing pools runs end to end, and its figures are in their ranges."""

import json
import subprocess
import sys

from tests.conftest import WORK_S


def test_add_model(root, shared_data, tmp_path):
    png = tmp_path / "growing.png"
    command = [
        sys.executable,
        str(root / "bench" / "add_model.py"),
        "--quick",
        "--data",
        str(shared_data),
        "--plot",
        str(png),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORK_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    for method in ("added", "with_strength", "retrained"):
        for labels in (16, 64, 256):
            assert 0.1 < found[f"{method}_{labels}_brier"] < 0.35
            assert 0.4 < found[f"{method}_{labels}_apgr"] < 0.8
    assert found["with_strength_16_brier"] < found["mean_16_brier"]
    assert found["mean_16_apgr"] is None
    assert found["prompts"] > 1000
    assert png.read_bytes().startswith(b"\x89PNG")
