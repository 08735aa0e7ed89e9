"""Results on disk after a crash: what is torn is cut off, what cannot be read is left out, what is whole is done."""

import json
import logging
from pathlib import Path

import pytest

from router.pipeline.batch import recovery
from router.pipeline.batch.folder import Folder
from router.pipeline.batch.objects import result_id
from router.pipeline.batch.pace import Pace
from router.pipeline.batch.recovery import recover
from router.pipeline.batch.results import Appender, Failed, failed

ID = "batch_0123456789abcdef01234567"


def result(line: int) -> bytes:
    return failed(ID, line, "x", Failed("some_code", "why"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "batches")


@pytest.mark.parametrize(
    ("torn", "whole"),
    [
        (b"", 2),
        (result(3)[:-1], 2),
        (result(3)[:20], 2),
        (b"\0" * 100, 2),
        (b"{}\n", 2),
        (result(2), 2),
        (result(3), 3),
    ],
    ids=["nothing", "no line break", "half", "zeros", "no id", "twice", "whole"],
)
def test_what_is_torn_is_cut_off(folder: Folder, torn: bytes, whole: int) -> None:
    appender = Appender(folder, ID, 1.0)
    appender.append("output", result(1) + result(2) + torn)
    appender.append("errors", result(9))
    appender.close()
    done = recover(folder, ID, 100, Pace())
    lines = [line for line in range(1, 20) if line in done]
    assert lines == [*range(1, whole + 1), 9]
    assert done.counts == {"output": whole, "errors": 1}
    assert folder.read(f"{ID}.output", 10_000) == b"".join(result(n) for n in range(1, whole + 1))


def test_a_batch_without_results_has_none_done(folder: Folder) -> None:
    done = recover(folder, ID, 100, Pace())
    assert done.counts == {"output": 0, "errors": 0}
    assert 1_000_000 not in done


@pytest.mark.parametrize(
    "broken",
    [b"not json\n", b"{}\n", b"\0" * 100 + b"\n", result(1), result(101), b'{"id": "batch_req_x"}\n', b"\xff\n"],
    ids=["no JSON", "no id", "zeros", "twice", "of no line", "another id", "no text"],
)
@pytest.mark.parametrize("end", [b"", result(5)[:30]], ids=["whole end", "torn end"])
def test_a_line_that_cannot_be_read_is_left_out_and_those_behind_it_stay(
    folder: Folder, broken: bytes, end: bytes, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recovery, "_BLOCK_BYTES", 64)
    appender = Appender(folder, ID, 1.0)
    appender.append("output", result(1) + broken + result(2) + result(3) + broken + result(4) + end)
    appender.close()
    with caplog.at_level(logging.WARNING):
        done = recover(folder, ID, 100, Pace())
    assert [line for line in range(1, 102) if line in done] == [1, 2, 3, 4]
    assert done.counts == {"output": 4, "errors": 0}
    assert folder.read(f"{ID}.output", 10_000) == b"".join(map(result, (1, 2, 3, 4)))
    assert "2 lines of results cannot be read, or stand twice, and are left out (line 2, 5)" in caplog.text
    assert not [name for name in folder.names() if name.startswith("new-")]
    caplog.clear()
    assert recover(folder, ID, 100, Pace()).counts == done.counts
    assert not caplog.records


def answer(line: int, usage: object) -> bytes:
    response = {"status_code": 200, "request_id": "r", "body": {"id": "c", "usage": usage}}
    return json.dumps({"id": result_id(ID, line), "custom_id": "x", "response": response}).encode() + b"\n"


def test_the_tokens_of_answers_from_before_a_crash_are_counted(folder: Folder) -> None:
    appender = Appender(folder, ID, 1.0)
    answers = [answer(n, {"prompt_tokens": 7, "completion_tokens": n}) for n in (1, 2, 3)]
    appender.append("output", b"".join(answers) + answers[0] + answer(4, {"prompt_tokens": 90})[:-1])
    appender.append("errors", answer(5, {"prompt_tokens": 100}))  # of status 400
    appender.close()
    tokens = recover(folder, ID, 100, Pace()).tokens
    assert (tokens.input, tokens.output) == (21, 6)
