"""Memory that scoring keeps for its next call is bounded, whatever text came before."""

import subprocess
import sys

import pytest

from router.native import scorer
from tests.conftest import WORK_S

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="reads /proc"),
    pytest.mark.skipif("sanitize" in scorer.__file__, reason="the sanitizer keeps what is freed"),
]

#: Scores one text in four threads that live on, as those of a pool do. Prints the growth in MB: at most, and for good.
SCRIPT = """
import re, sys, threading
from router.config import Member
from router.pipeline.scoring import Scoring

def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) / 1024

scoring = Scoring.load("default", [Member(name="small", strength=0.3), Member(name="large", strength=0.6)])
head, text = scoring.head, eval(sys.argv[1])
head.score([("warm up " * 1000, 1.0)])
open("/proc/self/clear_refs", "w").write("5")  # the peak is counted from here on
before = status("VmRSS")
done, leave = threading.Barrier(5), threading.Event()

def work():
    head.score([(text, 1.0)])
    done.wait()
    leave.wait()

threads = [threading.Thread(target=work) for _ in range(4)]
[thread.start() for thread in threads]
done.wait()
print(status("VmHWM") - before, status("VmRSS") - before)
leave.set()
"""


@pytest.mark.parametrize(
    "text",
    [
        '"a" * 20_000_000',
        '"\\u00e9" * 10_000_000',
        '"a" * 20_000_000 + " b"',
        '" ".join(map(str, range(2_000_000)))',
        '"?" * 20_000_000',
    ],
)
def test_a_huge_text_takes_little_memory_and_leaves_none(text: str) -> None:
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT, text], capture_output=True, text=True, check=True, timeout=WORK_S
    )
    at_most_mb, for_good_mb = map(float, run.stdout.split())
    assert at_most_mb < 60  # four copies of a text that CPython has as UTF-8 too
    assert for_good_mb < 30
