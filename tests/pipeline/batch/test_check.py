"""The check of an input: every line that is wrong, those that stand twice, many of them in bounded memory."""

import json
import os
import subprocess
import sys
from array import array
from pathlib import Path

import pytest

from router.pipeline.batch import lines
from router.pipeline.batch.check import Check, Checked, TooManyLines, twice
from router.pipeline.batch.folder import Folder
from router.pipeline.batch.objects import new_batch_id
from router.pipeline.batch.pace import Pace, Stopped
from router.pipeline.batch.results import Appender

CHAT = "/v1/chat/completions"


def run(folder: Folder, data: bytes, most_lines: int = 1_000, pace: Pace | None = None) -> tuple[Checked, list[dict]]:  # type: ignore[type-arg]
    path, id = folder.path / "in", new_batch_id()
    path.write_bytes(data)
    appender, descriptor = Appender(folder, id, 1.0), os.open(path, os.O_RDONLY)
    try:
        check = Check(id, CHAT, most_lines=most_lines, most_line_bytes=1_000)
        found = check.run(descriptor, appender, pace or Pace())
    finally:
        appender.close()
        os.close(descriptor)
    return found, [json.loads(each) for each in folder.read(f"{id}.errors", 1 << 24).splitlines()]


def line(name: str) -> bytes:
    return json.dumps({"custom_id": name, "method": "POST", "url": CHAT, "body": {}}).encode() + b"\n"


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path / "batches")


def test_of_equal_ids_the_first_is_good_and_every_other_names_it(folder: Folder) -> None:
    found, errors = run(folder, line("a") + line("b") + line("a") + b"\n" + line("a") + b"x\n" + line("b"))
    assert (found.counts.total, found.counts.failed) == (6, 4)
    told = {each["error"]["line"]: (each["custom_id"], each["error"]["message"]) for each in errors}
    assert told[3] == ("a", "line 3: `custom_id`: 'a' is that of line 1 too")
    assert told[5] == ("a", "line 5: `custom_id`: 'a' is that of line 1 too")
    assert told[7] == ("b", "line 7: `custom_id`: 'b' is that of line 2 too")
    assert told[6][0] is None


def test_ten_thousand_lines_of_one_id_are_named_by_one_more_reading_of_the_input(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, pread = [], os.pread
    monkeypatch.setattr(lines.os, "pread", lambda *where: reads.append(where) or pread(*where))
    found, errors = run(folder, line("a") * 10_000, most_lines=20_000)
    assert found.counts.failed == 9_999
    assert [each["error"]["line"] for each in errors] == list(range(2, 10_001))
    assert {each["custom_id"] for each in errors} == {"a"}
    assert len(reads) < 20


def test_ten_thousand_wrong_lines_are_all_in_the_error_file_and_a_hundred_in_the_batch(folder: Folder) -> None:
    found, errors = run(folder, b"{}\n" * 10_000 + line("a"), most_lines=20_000)
    assert (found.counts.total, found.counts.failed, len(found.faults)) == (10_001, 10_000, 100)
    assert len(errors) == 10_000


def test_more_lines_than_allowed_end_the_check(folder: Folder) -> None:
    with pytest.raises(TooManyLines):
        run(folder, line("a") * 11, most_lines=10)


def test_a_check_that_is_not_wanted_ends_soon(folder: Folder) -> None:
    with pytest.raises(Stopped):
        run(folder, b"".join(line(str(n)) for n in range(100_000)), 1_000_000, Pace(lambda: False))


def test_equal_digests_are_found_in_order() -> None:
    digests = array("Q", [1, 1, 2, 2, 1, 1, 1, 2, 2, 2, 1, 1])
    assert list(twice(digests)) == [(2, 0), (4, 1), (5, 0)]
    assert list(twice(array("Q"))) == []
    assert list(twice(array("Q", [1, 2]))) == []


MILLION = f"""
import os, resource, sys
from pathlib import Path
from router.pipeline.batch import lines
from router.pipeline.batch.check import Check
from router.pipeline.batch.folder import Folder
from router.pipeline.batch.objects import new_batch_id
from router.pipeline.batch.results import Appender

class Fast:
    def step(self): ...

folder, id = Folder(Path(sys.argv[1])), new_batch_id()
descriptor = os.open(sys.argv[2], os.O_RDONLY)
check = Check(id, {CHAT!r}, most_lines=1_000_000, most_line_bytes=1_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
found = check.run(descriptor, Appender(folder, id, 1.0), Fast())
print(found.counts.total, found.counts.failed, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_a_million_lines_take_a_bounded_part_of_memory(folder: Folder, tmp_path: Path) -> None:
    path = tmp_path / "million.jsonl"
    with path.open("wb") as file:
        for n in range(999_998):
            file.write(b'{"custom_id":"%d","method":"POST","url":"%s","body":{}}\n' % (n, CHAT.encode()))
        file.write(line("7") + line("x"))
    done = subprocess.run(
        [sys.executable, "-c", MILLION, str(folder.path), str(path)], capture_output=True, text=True, check=True
    )
    total, wrong, more_kib = map(int, done.stdout.split())
    assert (total, wrong) == (1_000_000, 1)
    assert more_kib < 160 * 1024  # 24 bytes a line, and what sorting them takes; the file has 70 MB
