"""The bench of HTTP servers runs on what needs no installation, and every stream arrives whole."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import upstream

from tests.conftest import WORK_S


@pytest.mark.skipif(bool(upstream.missing_tools()), reason=upstream.missing_tools() or "nginx and wrk are here")
def test_http_servers(root: Path) -> None:
    command = [sys.executable, str(root / "bench" / "http_servers.py"), "--quick", "--servers", "bare,headgate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=WORK_S, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["headgate_request_us"] > 0
    assert result["headgate_event_us"] > 0
    assert set(result["servers"]) == {"bare", "headgate"}
