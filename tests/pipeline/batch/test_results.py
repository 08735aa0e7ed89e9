"""Results on their way to the disk."""

import asyncio
import errno
import os
from pathlib import Path
from typing import Any

import pytest

from router.pipeline.batch import results
from router.pipeline.batch.folder import Folder
from router.pipeline.batch.objects import line_of, result_id
from router.pipeline.batch.pace import Pace
from router.pipeline.batch.recovery import recover
from router.pipeline.batch.results import Appender, Failed, Results, failed
from router.pipeline.threads import Threads
from tests.conftest import until

ID = "batch_0123456789abcdef01234567"


def test_an_id_tells_its_line() -> None:
    assert result_id(ID, 300) == "batch_req_0123456789abcdef012345670000012c"
    for line in (1, 300, 1 << 40):
        assert line_of(result_id(ID, line).encode()) == line
    assert line_of(b"batch_req_torn") is None


def result(line: int) -> bytes:
    return failed(ID, line, "x", Failed("some_code", "why"))


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "batches")


class Told:
    def __init__(self) -> None:
        self.written: dict[str, int] = {"output": 0, "errors": 0}
        self.errors: list[OSError] = []

    def wrote(self, where: str, count: int, size: int) -> None:
        self.written[where] += count


async def test_results_are_counted_once_they_are_written(folder: Folder) -> None:
    told, threads = Told(), Threads(1)
    written = Results(Appender(folder, ID, 0.0), threads, told.wrote, told.errors.append)
    for line in range(1, 101):
        written.add("errors" if line % 10 == 0 else "output", result(line))
    assert told.written["output"] == 0
    await until(lambda: written.settled)
    assert told.written == {"output": 90, "errors": 10}
    assert written.unwritten_bytes == 0
    written.close()
    assert recover(folder, ID, 1000, Pace()).counts == told.written
    threads.stop()


async def test_on_a_full_disk_half_a_result_is_taken_back_and_no_more_is_written(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    told, threads = Told(), Threads(1)
    written = Results(Appender(folder, ID, 1.0), threads, told.wrote, told.errors.append)
    written.add("output", result(1))
    await until(lambda: written.settled)

    def full(descriptor: int, data: Any) -> None:
        os.write(descriptor, data[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(results, "write_all", full)
    written.add("output", result(2))
    await until(lambda: told.errors)
    assert written.settled
    written.add("output", result(3))
    await asyncio.sleep(0)
    assert (written.settled, written.unwritten_bytes) == (True, 0)
    assert results.why_not_written(told.errors[0]) == "the disk is full"
    written.close()
    assert folder.read(f"{ID}.output", 10_000) == result(1)
    threads.stop()
