"""The generated header is what its generator writes."""

import subprocess
import sys
import unicodedata

import pytest

from router.native import scorer


def test_header_is_fresh(root):
    if unicodedata.unidata_version != scorer.UNICODE_VERSION:
        pytest.skip(f"this Python has Unicode {unicodedata.unidata_version}, the table {scorer.UNICODE_VERSION}")
    made = subprocess.run(
        [sys.executable, root / "csrc/make_unicode_table.py"], capture_output=True, text=True, check=True
    )
    assert made.stdout == (root / "csrc/unicode_table.hpp").read_text(encoding="utf-8")
