"""Lines appended by a thread of their own: in order, whole, told when they are in the file, and nobody waits."""

import errno
import os
import select
import threading
import time
from pathlib import Path

import pytest

from router.observe.appender import Appender
from tests.conftest import PATIENCE_S, wait_until

BIG = 1 << 40


def opened(path: Path) -> int:
    return os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)


def drained(appender: Appender) -> None:
    assert appender.drained(PATIENCE_S)


def fates(appender: Appender, count: int) -> list[tuple[int, bool]]:
    found: list[tuple[int, bool]] = []
    while len(found) < count:
        ready, _, _ = select.select([appender.fileno()], [], [], PATIENCE_S)
        assert ready
        found += appender.done()
    return found


def test_blocks_are_in_the_file_in_their_order_and_counted(tmp_path: Path) -> None:
    appender = Appender(BIG)
    assert appender.counts() == (0, 0, 0, 0)
    blocks = [b"%d\n" % i * (i % 5 + 1) for i in range(2000)]
    for i, block in enumerate(blocks):
        assert appender.put(block, i % 5 + 1) == i + 1
        if i == 1000:
            assert appender.use(opened(tmp_path / "a")) == -1
    drained(appender)
    assert (tmp_path / "a").read_bytes() == b"".join(blocks)
    size = sum(map(len, blocks))
    assert appender.counts() == (size, size, sum(i % 5 + 1 for i in range(2000)), 0)
    assert appender.done() == []


def test_what_is_put_before_a_file_is_there_waits_and_what_is_refused_is_dropped(tmp_path: Path) -> None:
    appender = Appender(BIG)
    first = appender.put(b"a\n", 1, told=True)
    assert not appender.drained(0.05)
    assert appender.use(opened(tmp_path / "a")) == -1
    assert fates(appender, 1) == [(first, True)]
    file = appender.refuse(errno.ENOENT)
    assert file >= 0
    os.close(file)
    second = appender.put(b"b\nc\n", 2, told=True)
    assert fates(appender, 1) == [(second, False)]
    assert appender.counts() == (6, 6, 1, 2)
    _, taken, error, failure, ended = appender.attend(0)
    assert (taken, error, failure, ended) == (second, errno.ENOENT, errno.ENOENT, False)
    appender.use(opened(tmp_path / "b"))
    third = appender.put(b"d\n", 1)
    drained(appender)
    assert (tmp_path / "b").read_bytes() == b"d\n"
    assert appender.attend(0)[:4] == (2, third, 0, errno.ENOENT)


def test_what_broke_off_is_ended_before_the_next_line_and_its_whole_lines_count() -> None:
    ours, theirs = os.pipe2(os.O_NONBLOCK)
    appender = Appender(BIG)
    appender.use(theirs)
    block = appender.put(b"whole\n" * 1000 + b"x" * 100_000 + b"\n", 1001, told=True)
    assert fates(appender, 1) == [(block, False)]
    assert appender.counts()[2:] == (1000, 1)
    start = os.read(ours, 1 << 20)
    assert start.startswith(b"whole\n" * 1000 + b"xxx")
    assert start.endswith(b"x")
    appender.put(b"next\n", 1)
    drained(appender)
    assert os.read(ours, 1 << 20) == b"\nnext\n"
    os.close(ours)
    appender.put(b"to nobody\n", 1)
    drained(appender)
    assert appender.attend(0)[2] == errno.EPIPE


def test_another_file_is_used_from_the_next_block_on_and_the_keeper_is_woken_for_a_full_one(tmp_path: Path) -> None:
    appender = Appender(10)
    appender.use(opened(tmp_path / "a"))
    appender.put(b"12345\n", 1)
    drained(appender)
    assert appender.attend(0)[0] == 6
    woken: list[int] = []
    keeper = threading.Thread(target=lambda: woken.append(appender.attend(PATIENCE_S)[0]))
    keeper.start()
    appender.put(b"67890\n", 1)
    keeper.join()
    assert woken == [12]
    os.close(appender.use(opened(tmp_path / "b")))
    appender.put(b"b\n", 1)
    drained(appender)
    assert ((tmp_path / "a").read_bytes(), (tmp_path / "b").read_bytes()) == (b"12345\n67890\n", b"b\n")
    assert appender.attend(0)[0] == 2


def test_a_file_that_hangs_is_waited_for_as_long_as_is_said_and_after_five_times_not_for_a_while() -> None:
    ours, theirs = os.pipe()
    appender = Appender(BIG)
    appender.use(theirs)
    appender.put(b"x" * (1 << 20) + b"\n", 1)
    begun = time.perf_counter()
    assert not appender.settle(0.05, 60.0)
    assert time.perf_counter() - begun >= 0.05
    waited = 1
    for _ in range(100):
        appender.put(b"y\n", 1)
        begun = time.perf_counter()
        assert not appender.settle(0.25, 600.0)
        waited += time.perf_counter() - begun >= 0.25
    assert 5 <= waited < 50  # a busy machine may hold up a call that does not wait
    read = 0
    while read < (1 << 20) + 201:
        read += len(os.read(ours, 1 << 16))
    drained(appender)
    assert appender.settle(0.0, 0.0)
    os.close(ours)


def test_with_synced_first_a_fate_is_told_after_the_sync_and_what_it_refused_counts_as_dropped(tmp_path: Path) -> None:
    appender = Appender(BIG, synced_first=True)
    appender.use(opened(tmp_path / "a"))
    first, second, third = (appender.put(b"%d\n" % i, 1, told=True) for i in range(3))
    drained(appender)
    assert appender.done() == []
    assert select.select([appender.fileno()], [], [], 0)[0] == []
    appender.synced(first, True)
    assert fates(appender, 1) == [(first, True)]
    appender.synced(third, False)
    assert fates(appender, 2) == [(second, False), (third, False)]


def threads() -> set[str]:
    return {path.name for path in Path("/proc/self/task").iterdir()}


@pytest.mark.parametrize("ended", [True, False])
def test_the_thread_ends_once_all_is_written_or_nobody_is_left(tmp_path: Path, ended: bool) -> None:
    before, file = threads(), opened(tmp_path / "a")

    def work() -> set[str]:
        appender = Appender(BIG)
        own = threads() - before
        appender.use(file)
        appender.put(b"a\n", 1)
        if ended:
            appender.end()
            wait_until(lambda: appender.attend(0.01)[4])
        return own

    own = work()
    assert own
    wait_until(lambda: not own & threads())
    assert (tmp_path / "a").read_bytes() == b"a\n"
    os.close(file)


def test_it_is_refused_without_being_made() -> None:
    with pytest.raises(ValueError, match="not initialised"):
        Appender.__new__(Appender).put(b"", 0)  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        Appender(BIG).put(None, 0)  # type: ignore[arg-type]
