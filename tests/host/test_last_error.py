"""Which line says why an engine did not start."""

import subprocess
import sys

import pytest

from router.errors import ConfigError
from router.host.last_error import root_cause

CORE = [
    "(EngineCore pid=7) ERROR 11-24 07:24:30 [core.py:1200] Traceback (most recent call last):",
    '(EngineCore pid=7) ERROR 11-24 07:24:30 [core.py:1200]   File "x.py", line 3, in y',
    "(EngineCore pid=7) ERROR 11-24 07:24:30 [core.py:1200] ValueError: No available memory for the cache blocks.",
    "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}",
]


@pytest.mark.parametrize(
    ("error", "lines", "wanted"),
    [
        (ValueError("bad\nvalue"), [], "bad value"),
        (ConfigError("engine_args: vLLM has no argument 'x'"), [], "engine_args: vLLM has no argument 'x'"),
        (ConfigError("adapter 'x': see the root cause above"), CORE, "adapter 'x': see the root cause above"),
        (OSError("no file"), [], "OSError: no file"),
        (
            RuntimeError("Engine core initialization failed. See root cause above."),
            CORE,
            "ValueError: No available memory for the cache blocks.",
        ),
        (
            RuntimeError("Engine core initialization failed. See root cause above."),
            [
                "(Worker pid=9) ERROR [x.py:1] torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.",
                "(EngineCore pid=7) ERROR [y.py:2] Exception: WorkerProc initialization failed due to an exception in "
                "a background process. See stack trace for root cause.",
            ],
            "OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB.",
        ),
        (
            OSError(
                "Cannot find an appropriate cached snapshot folder for the specified revision on the local disk and "
                "outgoing traffic has been disabled. To enable repo look-ups and downloads online, pass "
                "'local_files_only=False' as input."
            ),
            [],
            "the model is not in Hugging Face's cache on this machine, and HF_HUB_OFFLINE forbids to fetch it: unset "
            "it, or give a folder as `model`",
        ),
        (RuntimeError("See root cause above."), ["nothing of use"], "RuntimeError: See root cause above."),
    ],
)
def test_root_cause(error, lines, wanted):
    assert root_cause(error, lines) == wanted


def test_a_pydantic_report_shrinks_to_what_is_wrong():
    class Report(ValueError):
        def errors(self):
            return [{"msg": "Value error, Invalid repository ID: 'nowhere'"}]

    assert root_cause(Report("1 validation error for ModelConfig ..."), []) == "Invalid repository ID: 'nowhere'"


PROGRAM = """
import os, subprocess, sys, time
from router.host.last_error import LastWords
words = LastWords()
print("from us", flush=True)
subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('from a child\\\\n')"], check=True)
until = time.monotonic() + 60
while len(words.lines()) < 2 and time.monotonic() < until:
    time.sleep(0.01)
words.say("kept: " + ", ".join(sorted(words.lines())))
"""


def test_output_of_children_is_kept_and_passed_on():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=150, check=True)
    lines = done.stderr.splitlines()
    assert lines[:2] == ["from us", "from a child"]
    assert lines[-1] == "kept: from a child, from us"
    assert done.stdout == ""


FULL = """
import os, sys, time
from router.host.last_error import LastWords
words = LastWords()
real = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT)
for i in range(4000):  # many times what a pipe holds
    print("x" * 99, flush=True)
print("the last one before", file=sys.stderr, flush=True)
until = time.monotonic() + 60
while "the last one before" not in words.lines() and time.monotonic() < until:
    time.sleep(0.01)
os.dup2(real, words._out)  # somebody made room
print("the first one after", file=sys.stderr, flush=True)
while "the first one after" not in words.lines() and time.monotonic() < until:
    time.sleep(0.01)
words.say("said past the pipe")
sys.exit(7)
"""


def test_a_full_disk_under_the_log_stops_nothing_and_the_gap_is_told(tmp_path):
    log = tmp_path / "log"
    with open("/dev/full", "w") as full:
        process = subprocess.run([sys.executable, "-c", FULL, str(log)], stdout=full, stderr=full, timeout=150)
    assert process.returncode == 7
    missing = 4000 * 100 + len("the last one before\n")
    assert log.read_text().splitlines() == [
        f"headgate-host: WARNING the log could not be written: {missing} bytes are missing here",
        "the first one after",
        "said past the pipe",
    ]


def test_a_log_that_cannot_be_written_is_said_once_among_the_last_words(tmp_path):
    program = """
import sys, time
from router.host.last_error import LastWords
words = LastWords()
for i in range(300):
    print(i, flush=True)
until = time.monotonic() + 60
while "299" not in words.lines() and time.monotonic() < until:
    time.sleep(0.01)
words.say("nothing")
open(sys.argv[1], "w").write("\\n".join(line for line in words.lines() if not line.isdigit()))
"""
    with open("/dev/full", "w") as full:
        subprocess.run(
            [sys.executable, "-c", program, str(tmp_path / "kept")], stdout=full, stderr=full, timeout=150, check=True
        )
    kept = (tmp_path / "kept").read_text()
    assert kept == "headgate-host: WARNING the log could not be written: No space left on device"
