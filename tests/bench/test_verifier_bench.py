"""The verifier's bench runs end to end in its quick mode."""

import json
import subprocess
import sys
from pathlib import Path

from tests.conftest import WORK_S


def test_verifier(root: Path) -> None:
    command = [sys.executable, str(root / "bench" / "verifier.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORK_S, check=True)
    result = json.loads(done.stdout.splitlines()[-1])
    assert 0 < result["quality_us"] < result["text_us"]
    assert 0 < result["statistics_us"] < result["text_us"] < result["megabyte_us"]
    assert result["text"]["min"] <= result["text"]["median"] <= result["text"]["max"]
