"""The table that a host and its engine's workers share."""

import os
import stat

import numpy as np
import pytest

from router.host.watch.table import KEY, VARIABLE, Ticket, WatchTable, shared


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "m.sock.watch")


def test_what_the_host_writes_a_worker_reads_and_the_other_way(path):
    host = WatchTable.create(path, 700, slots=8)
    worker = WatchTable.open(path)
    assert (worker.slots, worker.vocabulary, worker.firsts) == (8, 700, 512)
    assert not worker.ready
    host.describe(np.arange(700, dtype=np.uint8), np.arange(512, dtype=np.int32)[::-1], stop=9, hidden=-1)
    host.orders[7] = 3.5
    worker.states[7, 1] = 2.5
    assert worker.ready
    assert (worker.stop, worker.hidden) == (9, -1)
    assert worker.places[:3].tolist() == [0, 1, 2]
    assert worker.first_ids[0] == 511
    assert worker.orders[7].tolist() == [3.5] * 32
    assert host.states[7, 1].tolist() == [2.5] * 16


def test_a_small_vocabulary_has_all_its_logits_kept(path):
    assert WatchTable.create(path, 20).firsts == 20


def test_it_is_for_this_user_alone_and_goes_with_its_host(path):
    table = WatchTable.create(path, 20)
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    WatchTable.open(path).remove()
    assert os.path.exists(path)
    table.remove()
    assert not os.path.exists(path)
    table.remove()


def test_a_table_of_an_earlier_host_is_replaced(path):
    first, second = WatchTable.create(path, 20), WatchTable.create(path, 30)
    assert WatchTable.open(path).vocabulary == 30
    assert first.seal != second.seal


@pytest.mark.parametrize("content", [b"", b"x" * 10_000], ids=["empty", "other"])
def test_a_file_that_is_no_table_is_refused(path, content):
    with open(path, "wb") as file:
        file.write(content)
    with pytest.raises(ValueError, match=r"expected a table of the watch, format 1|cannot mmap an empty file"):
        WatchTable.open(path)


def test_a_ticket_is_read_from_a_requests_arguments(path):
    table = WatchTable.create(path, 20, slots=4)
    assert table.ticket(None) is None
    assert table.ticket({"other": 1}) is None
    assert table.ticket(table.extra_args(Ticket(3, 7.0))) == Ticket(3, 7.0)


@pytest.mark.parametrize(
    "given", ["mine", 3, None, {}, [], [1, 2], ["wrong", 0, 1], {"seal": "x"}, ["", 0, 1], [None, 0, 1]], ids=str
)
def test_a_clients_ticket_is_refused_by_name(path, given):
    table = WatchTable.create(path, 20)
    with pytest.raises(ValueError, match="vllm_xargs: headgate_watch is reserved"):
        table.ticket({KEY: given})


@pytest.mark.parametrize("slot", [-1, 4])
def test_a_slot_that_is_not_there_is_refused(path, slot):
    table = WatchTable.create(path, 20, slots=4)
    with pytest.raises(ValueError, match=f"expected a slot from 0 to 3, got {slot}"):
        table.ticket({KEY: [table.seal, slot, 1]})


def test_the_vocabularys_facts_must_be_of_its_size(path):
    table = WatchTable.create(path, 20)
    with pytest.raises(ValueError, match="expected 20 places and 20 first ids, got 19 and 20"):
        table.describe(np.zeros(19, np.uint8), np.zeros(20, np.int32), stop=1, hidden=1)


def test_a_process_finds_its_engines_table_once(path, capsys):
    assert shared({}) is None
    WatchTable.create(path, 20)
    assert shared({VARIABLE: path}) is shared({VARIABLE: path})
    assert shared({VARIABLE: path}).vocabulary == 20


def test_a_table_that_cannot_be_read_leaves_the_engine_unwatched_and_says_so(tmp_path, capsys):
    assert shared({VARIABLE: str(tmp_path / "none")}) is None
    assert "headgate: nothing is watched in this engine: [Errno 2]" in capsys.readouterr().err
