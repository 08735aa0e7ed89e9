"""The scripts of `examples/pair` import one another by plain names, as scripts do; so do these tests."""

import sys
from pathlib import Path

import pytest

PAIR = Path(__file__).resolve().parents[2] / "examples" / "pair"
sys.path.insert(0, str(PAIR))


@pytest.fixture(scope="session")
def pair() -> Path:
    return PAIR
