"""What large bodies took goes back to the system when they are done."""

import subprocess
import sys

import pytest

from router.native import scorer
from tests.conftest import WORK_S

SCRIPT = """
import re
from router.cli.serve import settle

def resident_mb():
    return int(re.search(r"VmRSS:\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

settle()
kept, before = [], resident_mb()
for size in range(24, 4, -1):  # each is smaller than one that was freed, and something small is made after it
    blocks = [bytearray(b"x" * (size << 20)) for _ in range(2)]
    kept.append(bytearray(5_000))
    del blocks
print(resident_mb() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif("sanitize" in scorer.__file__, reason="the sanitizer keeps what is freed")
def test_freed_blocks_of_a_megabyte_and_more_are_given_back() -> None:
    run = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True, timeout=WORK_S)
    assert float(run.stdout) < 4  # MB; 45 as glibc has it
