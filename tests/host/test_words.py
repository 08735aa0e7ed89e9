"""Which line says why an engine did not start."""

import subprocess
import sys

import pytest

from router.errors import ConfigError
from router.host.words import root_cause

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
from router.host.words import LastWords
words = LastWords()
print("from us", flush=True)
subprocess.run([sys.executable, "-c", "import sys; sys.stderr.write('from a child\\\\n')"], check=True)
for _ in range(100):
    if len(words.lines()) == 2:
        break
    time.sleep(0.01)
words.say("kept: " + ", ".join(sorted(words.lines())))
"""


def test_output_of_children_is_kept_and_passed_on():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=30, check=True)
    lines = done.stderr.splitlines()
    assert lines[:2] == ["from us", "from a child"]
    assert lines[-1] == "kept: from a child, from us"
    assert done.stdout == ""
