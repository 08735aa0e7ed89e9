"""Triton settles at its import whether it interprets, so an interpreted run is a pytest of its own on a test's file."""

import os
import subprocess
import sys

import pytest

from tests.conftest import WORK_S

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def run(file):
    """All tests of `file` in the interpreter."""
    if INTERPRETED:
        pytest.skip("the suite already runs in Triton's interpreter")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", file]
    done = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=WORK_S
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
