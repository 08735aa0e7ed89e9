"""The process's first moments, before any engine."""

import subprocess
import sys


def test_a_bad_spec_is_refused_with_what_was_expected():
    done = subprocess.run(
        [sys.executable, "-P", "-m", "router.host"], input=b'{"name": 5}\n', capture_output=True, timeout=60
    )
    assert done.returncode == 2
    last = done.stderr.decode().splitlines()[-1]
    assert last.startswith("headgate-host: error: expected a host spec as one JSON line")
    assert "Expected `str`, got `int` - at `$.name`" in last
