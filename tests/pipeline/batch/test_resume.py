"""What a killed server has left in the folder, in every state of a batch, and what the next one makes of it."""

import json
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.pipeline.batch.folder import Folder
from router.pipeline.batch.objects import (
    Batch,
    Counts,
    File,
    StoredBatch,
    StoredFile,
    new_batch_id,
    new_file_id,
    result_id,
)
from tests.conftest import until
from tests.pipeline.batch.conftest import CHAT, line

Start = Callable[..., Awaitable[Any]]


USAGE = {"prompt_tokens": 1000, "completion_tokens": 500}


class Left:
    """A folder with a batch of three lines, of which the first one has its result."""

    def __init__(self, path: Path, **changes: Any) -> None:
        now = int(time.time())
        self.folder = Folder(path)
        self.id, self.input, self.output, self.errors = new_batch_id(), new_file_id(), new_file_id(), new_file_id()
        data = "".join(json.dumps(line(n)) + "\n" for n in range(1, 4)).encode()
        self.file(self.input, data)
        batch = Batch(
            id=self.id,
            endpoint=CHAT,
            input_file_id=self.input,
            completion_window="24h",
            created_at=now,
            expires_at=now + 3600,
            in_progress_at=now,
            request_counts=Counts(total=3),
        )
        stored = StoredBatch(batch=batch, owner="", output_id=self.output, error_id=self.errors)
        of_stored = {name: changes.pop(name) for name in ("ending",) if name in changes}
        stored = msgspec.structs.replace(stored, batch=msgspec.structs.replace(batch, **changes), **of_stored)
        self.folder.write(f"{self.id}.json", msgspec.json.encode(stored))
        self.put(f"{self.id}.output", self.result(1))

    def file(self, id: str, data: bytes) -> None:
        told = File(id=id, bytes=len(data), created_at=1, expires_at=None, filename="in", purpose="batch")
        self.put(f"{id}.data", data)
        self.folder.write(f"{id}.json", msgspec.json.encode(StoredFile(file=told, owner="")))

    def put(self, name: str, data: bytes) -> None:
        (self.folder.path / name).write_bytes(data)
        (self.folder.path / name).chmod(0o600)

    def result(self, number: int) -> bytes:
        response = {"status_code": 200, "request_id": "r", "body": {"kept": True, "usage": USAGE}}
        told = {"id": result_id(self.id, number), "custom_id": f"line-{number}", "response": response, "error": None}
        return json.dumps(told).encode() + b"\n"


async def test_a_batch_in_progress_keeps_its_results_and_runs_the_other_lines(start: Start, tmp_path: Path) -> None:
    left = Left(tmp_path / "batches", status="in_progress")
    kit = await start(engine_args={"step_s": 0.001})
    await until(lambda: kit.batches._ready)
    batch = await kit.over(left.id)
    assert (batch.status, batch.request_counts.completed, batch.output_file_id) == ("completed", 3, left.output)
    found = {each["custom_id"]: each["response"]["body"] for each in kit.results(left.output)}
    assert found["line-1"] == {"kept": True, "usage": USAGE}
    assert (batch.usage.input_tokens, batch.usage.output_tokens) == (1000, 500)
    assert "steps" in found["line-2"]
    assert "steps" in found["line-3"]


async def test_a_batch_that_was_being_checked_is_checked_anew(start: Start, tmp_path: Path) -> None:
    left = Left(tmp_path / "batches", status="validating", in_progress_at=None, request_counts=Counts())
    left.put(f"{left.id}.output", b"")
    left.put(f"{left.id}.errors", b'{"id":"batch_req_half a check')
    kit = await start(engine_args={"step_s": 0.001})
    await until(lambda: kit.batches._ready)
    batch = await kit.over(left.id)
    assert (batch.status, batch.request_counts.total, batch.request_counts.completed) == ("completed", 3, 3)
    assert batch.error_file_id is None


async def test_a_batch_that_was_being_cancelled_is_cancelled(start: Start, tmp_path: Path) -> None:
    left = Left(tmp_path / "batches", status="cancelling")
    kit = await start(engine_args={"step_s": 0.001})
    await until(lambda: kit.batches._ready)
    batch = await kit.over(left.id)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("cancelled", 1, 2)
    assert [each["custom_id"] for each in kit.results(left.errors)] == ["line-2", "line-3"]


@pytest.mark.parametrize("published", [False, True], ids=["not yet", "already"])
async def test_a_batch_whose_files_were_being_made_gets_them_once(
    start: Start, tmp_path: Path, published: bool
) -> None:
    left = Left(
        tmp_path / "batches", status="finalizing", ending="completed", request_counts=Counts(total=3, completed=3)
    )
    every = b"".join(left.result(n) for n in range(1, 4))
    if published:
        left.put(f"{left.id}.output", b"")
        left.file(left.output, every)
    else:
        left.put(f"{left.id}.output", every)
    kit = await start(engine_args={"step_s": 0.001})
    await until(lambda: kit.batches._ready)
    batch = await kit.over(left.id)
    assert (batch.status, batch.output_file_id, batch.error_file_id) == ("completed", left.output, None)
    assert len(kit.results(left.output)) == 3
    assert batch.request_counts == Counts(total=3, completed=3)


async def test_a_batch_whose_window_ended_while_no_server_ran_has_expired(start: Start, tmp_path: Path) -> None:
    left = Left(tmp_path / "batches", status="in_progress", expires_at=1)
    kit = await start(engine_args={"step_s": 0.5})
    await until(lambda: kit.batches._ready)
    batch = await kit.over(left.id)
    assert (batch.status, batch.request_counts.completed, batch.request_counts.failed) == ("expired", 1, 2)


async def test_a_batch_without_its_input_fails_and_says_so(start: Start, tmp_path: Path) -> None:
    left = Left(tmp_path / "batches", status="in_progress")
    left.folder.remove(f"{left.input}.data")
    kit = await start(engine_args={"step_s": 0.001})
    await until(lambda: kit.batches._ready)
    batch = await kit.over(left.id)
    assert batch.status == "failed"
    assert batch.errors.data[0].message == "the input file cannot be read: No such file or directory"
    assert [each["custom_id"] for each in kit.results(batch.output_file_id)] == ["line-1"]


async def test_what_was_never_whole_is_removed_and_what_cannot_be_read_is_left_alone(
    start: Start, tmp_path: Path
) -> None:
    left = Left(tmp_path / "batches", status="completed")
    removed = ("upload-12", "new-12", f"{new_file_id()}.data", f"{new_batch_id()}.output")
    kept = (f"{new_batch_id()}.json", "notes.txt")
    for name in (*removed, *kept):
        left.put(name, b"{")
    kit = await start(engine_args={"step_s": 0.001})
    await until(lambda: kit.batches._ready)
    names = set(left.folder.names())
    assert not names & set(removed)
    assert names >= set(kept)
    assert [each.id for each in kit.batches.batches("", after=None, limit=10).data] == [left.id]
