"""Which line of a dying engine's log says why."""

import pytest

from router.pool.process import cause, last_words


@pytest.mark.parametrize(
    ("log", "why"),
    [
        ("", ""),
        ("headgate-host: error: out of memory\nRuntimeError: later\n", "out of memory"),
        ("Traceback (most recent call last):\n  File x\nValueError: bad dtype\n", "ValueError: bad dtype"),
        (
            "ERROR 11-24 07:00:00 [core.py:1100] ValueError: To serve at least one request ...\n"
            "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}\n",
            "ValueError: To serve at least one request ...",
        ),
        (
            "\x1b[0;36m(EngineCore_DP0 pid=77)\x1b[0;0m torch.OutOfMemoryError: CUDA out of memory.\n"
            "(EngineCore_DP0 pid=77) INFO shutting down\n",
            "torch.OutOfMemoryError: CUDA out of memory.",
        ),
        ("pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig\n  bad\n",
         "pydantic_core._pydantic_core.ValidationError: 1 validation error for ModelConfig"),
        ("usage: x\nunrecognised argument --frobnicate\n", "usage: x | unrecognised argument --frobnicate"),
    ],
)  # fmt: skip
def test_last_words(log: str, why: str) -> None:
    assert last_words(log) == why


def test_a_log_without_an_exception_has_no_cause() -> None:
    assert cause("INFO all is well\nINFO still\n") == ""
