"""The process's first moments, before any engine."""

import json
import subprocess
import sys


def test_a_socket_that_cannot_be_made_is_said(tmp_path):
    spec = json.dumps({"name": "tiny", "model": "nowhere", "socket": str(tmp_path / ("x" * 200))})
    done = subprocess.run(
        [sys.executable, "-P", "-m", "router.host"], input=f"{spec}\n".encode(), capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines()[-1] == "headgate-host: error: OSError: AF_UNIX path too long"


def test_a_bad_spec_is_refused_with_what_was_expected():
    done = subprocess.run(
        [sys.executable, "-P", "-m", "router.host"], input=b'{"name": 5}\n', capture_output=True, timeout=60
    )
    assert done.returncode == 2
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("headgate-host: error: expected a host spec as one JSON line")
    assert "Expected `str`, got `int` - at `$.name`" in last
