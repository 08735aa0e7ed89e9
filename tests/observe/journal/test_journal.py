"""The journal: what the ledger tells is in the folder, in whole lines, within bounds, and nobody waits for the disk."""

import asyncio
import contextlib
import errno
import fcntl
import logging
import os
import shutil
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from router.config import Journal as JournalSettings
from router.errors import ConfigError
from router.observe.journal import FeedbackLine, Journal, Reader, check_folder
from router.observe.journal import folder as folders
from router.observe.journal.folder import segments
from router.observe.journal.lines import Unknown, migrate
from router.observe.metrics import Metrics
from router.observe.record import SCHEMA_VERSION, Record
from router.types import Turn
from tests.conftest import until
from tests.observe.scripted_ledger import ScriptedLedger

Opened = Callable[..., Journal]


def record(id: str = "d1", **fields: Any) -> Record:
    known: dict[str, Any] = {"request_id": "r", "time_s": 1.0, "kind": "chat", "asked": "auto", "end": "finish"}
    return Record(**{"version": SCHEMA_VERSION, "id": id, "status": 200, **known, **fields})


class Kit:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.metrics, self.ledger = Metrics(process=False), ScriptedLedger()
        self.journals: list[Journal] = []

    def open(self, **settings: Any) -> Journal:
        self.journals.append(Journal(JournalSettings(path=str(self.folder), **settings), self.ledger))
        return self.journals[-1]

    def ids(self) -> list[str]:
        return [line.id for line in Reader(self.folder)]


@pytest.fixture
async def kit(tmp_path: Path) -> AsyncIterator[Kit]:
    kit = Kit(tmp_path / "journal")
    yield kit
    for journal in kit.journals:
        await journal.close()


async def test_each_tick_is_written_without_a_close_and_read_back_whole(kit: Kit) -> None:
    journal = kit.open()
    told = [record(f"d{i}", turns=(Turn("user", "größer\n"),), cost_usd=1e-6) for i in range(3)]
    for each in told:
        kit.ledger.ended(each)
    await until(lambda: journal.counts.written == 3)
    assert list(Reader(kit.folder)) == told
    (segment,) = segments(kit.folder)
    assert segment.stat().st_mode & 0o777 == 0o600
    assert kit.folder.stat().st_mode & 0o777 == 0o700
    assert segment.read_bytes().startswith(b'{"type":"request","version":1,"id":"d0",')


def test_a_segment_that_is_removed_while_a_reader_reads_is_passed_over(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.folder.mkdir()
    for number in range(3):
        (kit.folder / f"headgate-20260101T00000{number}-000001.jsonl").write_bytes(b"")
    listed = segments(kit.folder)
    assert len(listed) == 3
    reader = Reader(kit.folder)
    monkeypatch.setattr(reader, "_files", lambda: listed)
    listed[0].unlink()
    assert (reader.total_bytes(), list(reader)) == (0, [])


async def test_a_full_segment_is_followed_by_a_new_one_and_the_oldest_are_removed(kit: Kit) -> None:
    journal = kit.open(segment_bytes=4096, keep_bytes=20_000)
    for i in range(400):
        kit.ledger.ended(record(f"d{i:03d}"))
        kit.ledger.tell()
        await until(lambda: journal.counts.written > i)
        await until(lambda: segments(kit.folder)[-1].stat().st_size < 4096)  # the last is never removed
    left = segments(kit.folder)
    assert 2 < len(left) < 8
    assert sum(each.stat().st_size for each in left) < 20_000 + 4096 + 1000
    assert kit.ids()[-1] == "d399"
    assert kit.ids() == sorted(kit.ids())
    assert kit.ids()[0] > "d200"


async def test_an_old_segment_is_followed_by_a_new_one_and_one_past_its_age_is_removed(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    kit.folder.mkdir(mode=0o700)
    past = kit.folder / "headgate-20200101T000000-000001.jsonl"
    past.write_bytes(b"")
    os.utime(past, (1.0, 1.0))
    other = kit.folder / "notes.jsonl"
    other.write_bytes(b"not ours")
    journal = kit.open(segment_s=1.0)
    kit.ledger.ended(record("a"))
    await until(lambda: journal.counts.written == 1)
    assert past not in segments(kit.folder)
    assert other.exists()
    real = time.monotonic
    monkeypatch.setattr(time, "monotonic", lambda: real() + 10)
    kit.ledger.ended(record("b"))
    await until(lambda: len(segments(kit.folder)) == 2)
    kit.ledger.ended(record("c"))
    await until(lambda: journal.counts.written == 3)
    assert segments(kit.folder)[1].stat().st_size > 0
    assert kit.ids() == ["a", "b", "c"]


async def test_a_process_never_writes_to_an_earlier_ones_segment(kit: Kit) -> None:
    first = kit.open()
    kit.ledger.ended(record("a"))
    kit.ledger.tell()
    await first.close()
    kit.journals.remove(first)
    (segment,) = segments(kit.folder)
    with segment.open("ab") as file:
        file.write(b'{"type":"request","id":"torn')
    second = kit.open()
    kit.ledger.ended(record("b"))
    await until(lambda: second.counts.written == 1)
    reader = Reader(kit.folder)
    assert [line.id for line in reader] == ["a", "b"]
    assert reader.torn == 1


async def test_a_second_journal_on_one_folder_is_refused(kit: Kit) -> None:
    kit.open()
    with pytest.raises(ConfigError, match=r"another process writes its journal here.* - at `\$\.journal\.path`"):
        kit.open()


@pytest.mark.parametrize(("mode", "allowed"), [(0o700, True), (0o755, True), (0o777, False), (0o730, False)])
def test_a_folder_that_others_may_write_in_is_refused(tmp_path: Path, mode: int, allowed: bool) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    folder.chmod(mode)
    if allowed:
        check_folder(folder)
        return
    with pytest.raises(ConfigError, match=rf"others may write in it .*mode 0{mode:o}"):
        check_folder(folder)


def test_a_path_under_a_file_is_refused_and_a_missing_folder_is_not(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"expected a folder; .*file is none - at `\$\.journal\.path`"):
        check_folder(tmp_path / "file" / "journal")
    check_folder(tmp_path / "a" / "b")
    assert not (tmp_path / "a").exists()


class Disk:
    """In a segment's place a pipe of one page. What does not fit waits for room; with `full` it is refused."""

    BYTES = 4096

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, *, full: bool = False) -> None:
        self._file = folder / "headgate-20260101T000000-000001.jsonl"
        self._ours, theirs = os.pipe2(os.O_NONBLOCK)
        fcntl.fcntl(theirs, fcntl.F_SETPIPE_SZ, self.BYTES)
        self._fill = os.dup(theirs)
        # Another description of the same pipe: whether it blocks is its own.
        self._theirs = os.open(f"/proc/self/fd/{theirs}", os.O_WRONLY | (os.O_NONBLOCK if full else 0))
        os.close(theirs)
        monkeypatch.setattr(folders.Folder, "new_segment", lambda folder: os.dup(self._theirs))

    def fill(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(self._fill, b"\n")

    def read(self) -> None:
        """Makes room: what is there goes to a file in the journal's folder."""
        with self._file.open("ab") as file, contextlib.suppress(BlockingIOError):
            while data := os.read(self._ours, 1 << 16):
                file.write(data)

    def close(self) -> None:
        """What still waits is refused."""
        for file in (self._ours, self._fill, self._theirs):
            os.close(file)


@pytest.fixture
def disk(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Disk]]:
    made: list[Disk] = []

    def make(**options: bool) -> Disk:
        made.append(Disk(kit.folder, monkeypatch, **options))
        return made[-1]

    yield make
    for each in made:
        each.close()


async def test_on_a_full_disk_records_are_dropped_and_counted_and_said_once(
    kit: Kit, disk: Callable[..., Disk], caplog: pytest.LogCaptureFixture
) -> None:
    full = disk(full=True)
    journal = kit.open()
    kit.ledger.ended(record("a"))
    await until(lambda: journal.counts.written == 1)
    for i, text in enumerate(("long" * Disk.BYTES, "", ""), 1):
        if not text:
            full.fill()
        kit.ledger.ended(record(f"lost{i}", turns=(Turn("user", text),)))
        await until(lambda: journal.counts.failed == i)
    full.read()
    kit.ledger.ended(record("b"))
    await until(lambda: journal.counts.written == 2)
    full.read()
    reader = Reader(kit.folder)
    assert [line.id for line in reader] == ["a", "b"]
    assert reader.torn == 1
    await until(lambda: "is written again" in caplog.text)
    said = [each.getMessage() for each in caplog.records if each.name == "headgate.journal" and "cannot be" in each.msg]
    assert len(said) == 1
    assert "Resource temporarily unavailable; requests go on, their records are dropped" in said[0]
    assert "the journal is written again; 3 records were dropped" in caplog.text


async def test_a_removed_segment_is_followed_by_a_new_one(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.observe.journal.writer._LOOK_S", 0.01)
    journal = kit.open()
    kit.ledger.ended(record("a"))
    await until(lambda: journal.counts.written == 1)
    segments(kit.folder)[0].unlink()
    await until(lambda: len(segments(kit.folder)) == 1)
    kit.ledger.ended(record("b"))
    await until(lambda: journal.counts.written == 2)
    assert kit.ids() == ["b"]


async def test_without_its_folder_records_are_dropped_until_it_is_there_again(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("router.observe.journal.writer._LOOK_S", 0.01)
    journal = kit.open()
    kit.folder.rename(kit.folder.with_name("elsewhere"))
    shutil.rmtree(kit.folder.with_name("elsewhere"))
    await until(lambda: "cannot be written: No such file or directory" in caplog.text)
    kit.ledger.ended(record("a"))
    await until(lambda: journal.counts.failed == 1)
    kit.folder.mkdir(mode=0o700)
    await until(lambda: len(segments(kit.folder)) == 1)
    kit.ledger.ended(record("b"))
    await until(lambda: journal.counts.written == 1)
    assert kit.ids() == ["b"]
    await until(lambda: "the journal is written again; 1 records were dropped" in caplog.text)


async def test_where_no_segment_can_be_begun_the_start_is_refused(kit: Kit, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(folder: folders.Folder) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(folders.Folder, "new_segment", refuse)
    with pytest.raises(ConfigError, match=r"No space left on device - at `\$\.journal\.path`"):
        kit.open()


async def test_a_journal_without_a_line_leaves_no_segment(kit: Kit) -> None:
    journal = kit.open()
    assert len(segments(kit.folder)) == 1
    await journal.close()
    kit.journals.remove(journal)
    assert segments(kit.folder) == []


async def test_a_disk_that_hangs_holds_nobody_up_and_what_the_queue_cannot_take_is_counted(
    kit: Kit, disk: Callable[..., Disk]
) -> None:
    slow = disk()
    journal = kit.open(queue_bytes=1000)
    kit.metrics.watch_journal(journal.counts)
    slow.fill()
    done: list[int] = []
    for i in range(100):
        kit.ledger.ended(record(f"d{i}"))
        kit.ledger.hold(lambda: done.append(1))
        kit.ledger.tell()
    assert len(done) == 100
    assert journal.counts.refused > 80
    page = kit.metrics.render().decode()
    assert f"headgate_journal_dropped_total {journal.counts.refused}.0" in page

    def written() -> bool:
        slow.read()
        return journal.counts.written == 100 - journal.counts.refused

    await until(written)
    assert "headgate_journal_queued_bytes 0.0" in kit.metrics.render().decode()


async def test_a_disk_that_hangs_is_waited_for_a_few_times_and_then_not_for_a_while(
    kit: Kit, disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.observe.journal.writer.SETTLE_PAUSE_S", 60.0)
    waited: list[float] = []
    slow = disk()
    kit.open()
    slow.fill()
    for i in range(50):
        begun = time.perf_counter()
        kit.ledger.ended(record(f"d{i}"))
        kit.ledger.tell()
        waited.append(time.perf_counter() - begun)
    slow.read()
    assert waited[0] >= 0.02
    assert sorted(waited[1:])[25] < 0.02


async def test_within_the_tick_that_told_of_it_a_record_is_in_the_file(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.observe.journal.writer.SETTLE_S", 60.0)
    kit.open()
    for i in range(200):
        kit.ledger.ended(record(f"d{i}"))
        kit.ledger.tell()
        assert kit.ids()[-1] == f"d{i}"


async def test_with_sync_record_an_end_waits_until_its_record_is_in_the_file(
    kit: Kit, disk: Callable[..., Disk]
) -> None:
    slow = disk()
    journal = kit.open(sync="record")
    seen: list[list[str]] = []

    def see() -> None:
        slow.read()
        seen.append(kit.ids())

    slow.fill()
    kit.ledger.ended(record("a"))
    kit.ledger.hold(see)
    kit.ledger.tell()
    await asyncio.sleep(0.05)
    assert seen == []
    slow.read()
    await until(lambda: bool(seen))
    assert seen == [["a"]]
    assert journal.counts.late == 0


async def test_with_sync_record_and_a_fast_disk_an_end_leaves_in_the_same_tick(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.observe.journal.writer.SETTLE_S", 60.0)
    kit.open(sync="record")
    seen: list[list[str]] = []
    for i in range(20):
        kit.ledger.ended(record(f"d{i}"))
        kit.ledger.hold(lambda: seen.append(kit.ids()))
        kit.ledger.tell()
        assert [ids[-1] for ids in seen] == [f"d{at}" for at in range(i + 1)]


class NativeEnds:
    keeps_pace = False


def leave(kit: Kit, before: Callable[[], None] | None, *ids: str) -> None:
    """What native code does: requests end, and before their last bytes leave it calls `before`."""
    for id in ids:
        kit.ledger.ended(record(id))
    assert before is not None
    before()


async def test_with_sync_record_what_ended_natively_is_in_the_file_before_its_last_bytes_leave(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.observe.journal.journal._LEAVE_S", 60.0)
    journal, ends = kit.open(sync="record"), NativeEnds()
    before = journal.pace(ends)
    assert ends.keeps_pace
    for i in range(20):
        leave(kit, before, f"a{i}", f"b{i}")
        assert kit.ids()[-2:] == [f"a{i}", f"b{i}"]
        leave(kit, before)  # nothing has ended
    assert (len(kit.ids()), journal.counts.late) == (40, 0)
    await journal.close()
    kit.journals.remove(journal)
    assert not ends.keeps_pace


async def test_with_sync_record_native_ends_wait_each_by_itself_once_the_disk_is_slow_until_it_has_caught_up(
    kit: Kit, disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.observe.journal.journal._LEAVE_S", 0.05)
    monkeypatch.setattr("router.observe.journal.journal.SETTLE_PAUSE_S", 0.01)
    slow = disk()
    journal, ends = kit.open(sync="record"), NativeEnds()
    before = journal.pace(ends)
    slow.fill()
    begun = time.perf_counter()
    leave(kit, before, "a", "b")
    assert time.perf_counter() - begun >= 0.05
    assert (ends.keeps_pace, journal.counts.late) == (False, 2)
    await asyncio.sleep(0.1)
    assert not ends.keeps_pace
    slow.read()
    await until(lambda: ends.keeps_pace)
    slow.read()
    assert kit.ids() == ["a", "b"]


async def test_native_ends_do_not_rely_on_it_with_sync_tick_nor_where_each_write_is_synced(kit: Kit) -> None:
    for settings in ({"sync": "tick"}, {"sync": "record", "fsync_s": 0.0}):
        journal, ends = kit.open(**settings), NativeEnds()
        assert journal.pace(ends) is None
        assert not ends.keeps_pace
        await journal.close()
        kit.journals.remove(journal)


async def test_with_fsync_0_an_end_waits_until_its_record_is_on_the_disk(
    kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = threading.Event()
    real = os.fdatasync

    def fdatasync(file: int) -> None:
        synced.wait(60)
        real(file)

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    journal = kit.open(sync="record", fsync_s=0.0)
    done: list[int] = []
    told: list[bool] = []
    kit.ledger.ended(record("a"))
    kit.ledger.hold(lambda: done.append(1))
    kit.ledger.tell()
    journal.put(FeedbackLine(id="a", score=1), told.append)
    await until(lambda: journal.counts.written == 2)  # a sync holds up no write
    await asyncio.sleep(0.05)
    assert (done, told) == ([], [])
    synced.set()
    await until(lambda: (done, told) == ([1], [True]))


async def test_what_the_disk_does_not_take_at_a_sync_is_told_as_not_written(
    kit: Kit, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fdatasync(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", fdatasync)
    journal = kit.open(fsync_s=0.0)
    told: list[bool] = []
    journal.put(FeedbackLine(id="a", score=1), told.append)
    await until(lambda: told == [False])
    assert "the disk does not take what was written: Input/output error" in caplog.text


async def test_with_sync_record_an_end_waits_no_longer_than_the_limit(
    kit: Kit, disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.observe.journal.journal.LONGEST_WAIT_S", 0.02)
    slow = disk()
    journal = kit.open(sync="record")
    slow.fill()
    done: list[int] = []
    kit.ledger.ended(record("a"))
    kit.ledger.hold(lambda: done.append(1))
    await until(lambda: bool(done))
    slow.read()
    await until(lambda: journal.counts.written == 1)
    assert (done, journal.counts.late) == ([1], 1)


async def test_of_a_disk_that_hangs_no_more_than_a_bounded_number_of_blocks_is_to_be_told(
    kit: Kit, disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.observe.journal.journal.LONGEST_WAIT_S", 0.02)
    monkeypatch.setattr("router.observe.journal.journal.MOST_TOLD", 10)
    slow = disk()
    journal = kit.open(sync="record")
    slow.fill()
    done: list[int] = []
    told: list[bool] = []
    for i in range(50):
        journal.put(FeedbackLine(id=f"d{i}", score=0.5), told.append)
    for i in range(50):
        kit.ledger.ended(record(f"d{i}"))
        kit.ledger.hold(lambda: done.append(1))
        kit.ledger.tell()
    assert len(journal._told) == 10
    await until(lambda: len(done) == 50 and len(told) == 45)
    assert (journal.counts.late, journal.counts.refused, told) == (50, 45, [False] * 45)

    def written() -> bool:
        slow.read()
        return journal.counts.written == 55 and not journal._told

    await until(written)
    assert told[45:] == [True] * 5


async def test_a_line_that_is_no_record_is_told_when_it_is_written_and_when_it_is_not(
    kit: Kit, disk: Callable[..., Disk]
) -> None:
    full = disk(full=True)
    journal = kit.open()
    told: list[bool] = []
    journal.put(FeedbackLine(id="d1", score=0.5), told.append)
    await until(lambda: told == [True])
    full.read()
    assert list(Reader(kit.folder)) == [FeedbackLine(id="d1", score=0.5)]
    full.fill()
    journal.put(FeedbackLine(id="d2", score=0.5), told.append)
    await until(lambda: told == [True, False])


async def test_a_record_that_makes_no_line_does_not_take_the_others_along(
    kit: Kit, caplog: pytest.LogCaptureFixture
) -> None:
    journal = kit.open()
    for each in (record("a"), record("b", key_id="\ud83d"), record("c")):
        kit.ledger.ended(each)
    await until(lambda: journal.counts.written == 2)
    assert kit.ids() == ["a", "c"]
    assert journal.counts.dropped == 1
    assert "makes no line, and is dropped" in caplog.text


# Reading


def write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


WHOLE = msgspec.json.encode(record("whole")) + b"\n"


@pytest.mark.parametrize(
    "torn",
    [
        b'{"type":"request","ver\n',
        b"\xff\xfe\n",
        b"\0\0\0\n",
        b"[1]\n",
        b'{"type":"request","id":5}\n',
        b"[" * 9999 + b"\n",
    ],
)
def test_a_line_that_is_not_whole_is_passed_over_and_counted(
    tmp_path: Path, torn: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    reader = Reader(write(tmp_path / "a.jsonl", WHOLE, torn, WHOLE, torn.rstrip(b"\n")))
    with caplog.at_level(logging.WARNING):
        assert [line.id for line in reader] == ["whole", "whole"]
    assert reader.torn == 2
    assert caplog.text.count("a line that is not whole is passed over") == 2


def test_every_prefix_of_a_journal_can_be_read(tmp_path: Path) -> None:
    whole = msgspec.json.encode(record("a")) + b"\n" + msgspec.json.encode(FeedbackLine(id="a", score=1)) + b"\n"
    for size in range(len(whole) + 1):
        reader = Reader(write(tmp_path / "a.jsonl", whole[:size]))
        assert len(list(reader)) == whole.count(b"\n", 0, size)
        assert reader.torn == (size > 0 and whole[size - 1] != 0x0A)


def test_lines_of_another_kind_or_a_later_version_are_counted_apart(tmp_path: Path) -> None:
    later = msgspec.json.encode(record("later", version=SCHEMA_VERSION + 1)) + b"\n"
    reader = Reader(write(tmp_path / "a.jsonl", b'{"type":"other"}\n', later, WHOLE))
    assert [line.id for line in reader] == ["whole"]
    assert (reader.torn, reader.unknown) == (0, 2)


def test_fields_that_a_reader_does_not_know_are_ignored(tmp_path: Path) -> None:
    line = WHOLE.replace(b'"id":"whole"', b'"id":"whole","later":{"a":[1]}')
    assert list(Reader(write(tmp_path / "a.jsonl", line))) == [record("whole")]


def test_a_line_of_the_first_format_becomes_a_record() -> None:
    old = {"type": "decision", "id": "d1", "prompt": "1 + 1?", "group": "s", "task": "sums", "model": "small"}
    assert migrate(old | {"completion_tokens": 7, "cost_usd": 0.5, "time_s": 9.0, "reason": "utility"}) == Record(
        version=SCHEMA_VERSION,
        id="d1",
        request_id="",
        time_s=9.0,
        kind="chat",
        asked="",
        session_id="s",
        task="sums",
        model="small",
        end="finish",
        status=200,
        completion_tokens=7,
        cost_usd=0.5,
        turns=(Turn("user", "1 + 1?"),),
    )
    ended = migrate({"type": "decision", "id": "d", "model": "m", "status": "cancel"})
    assert isinstance(ended, Record)
    assert (ended.end, ended.status, ended.turns) == ("cancel", 499, None)
    with pytest.raises(Unknown, match="type: expected request, feedback or decision, got 'other'"):
        migrate({"type": "other"})
    with pytest.raises(msgspec.ValidationError, match=r"Expected `str`, got `int` - at `\$.id`"):
        migrate({"type": "request", "version": 1, "id": 5})


def test_a_follower_waits_for_the_end_of_a_line_and_goes_on_in_the_next_segment(tmp_path: Path) -> None:
    def path(number: int) -> Path:
        return tmp_path / f"headgate-20260101T000000-{number:06d}.jsonl"

    write(path(1), WHOLE, WHOLE[:20])
    reader = Reader(tmp_path)
    following = reader.follow(pause_s=0.0)
    assert next(following) == record("whole")
    assert next(following) is None
    with path(1).open("ab") as file:
        file.write(WHOLE[20:])
    assert next(following) == record("whole")
    write(path(2), WHOLE.replace(b"whole", b"next!"))
    found = next(line for line in following if line is not None)
    assert found.id == "next!"
    assert reader.torn == 0


def test_two_processes_of_one_second_have_a_segment_each(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders.time, "strftime", lambda form, at: "20260101T000000")
    for _ in range(2):
        folder = folders.Folder(tmp_path / "j")
        os.close(folder.new_segment())
        folder.close()
    assert [each.name[-12:] for each in segments(tmp_path / "j")] == ["000001.jsonl", "000002.jsonl"]
