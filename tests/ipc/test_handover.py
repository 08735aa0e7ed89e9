"""The line of a takeover: messages and descriptors, and what breaks off."""

import os
import socket
from collections.abc import Iterator

import pytest

from router.errors import ProtocolError
from router.ipc.handover import About, Ask, Go, Line, Offer, Refused, Taken, close_all
from tests.conftest import PATIENCE_S


@pytest.fixture
def lines() -> Iterator[tuple[Line, Line]]:
    pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours, theirs = Line(pair[0]), Line(pair[1])
    yield ours, theirs
    ours.close()
    theirs.close()


def test_a_descriptor_arrives_with_its_message_and_no_child_inherits_it(lines: tuple[Line, Line]) -> None:
    ours, theirs = lines
    read, write = os.pipe()
    offer = Offer(files=("a pipe",), admin="", folder="/f", made=True, engines=(), hosts=0)
    ours.send(offer, (write,))
    message, files = theirs.receive(PATIENCE_S)
    try:
        assert message == offer
        (given,) = files
        os.write(given, b"x")
        assert os.read(read, 10) == b"x"
        assert not os.get_inheritable(given)
    finally:
        close_all([read, write, *files])


def test_messages_stay_apart_and_in_order(lines: tuple[Line, Line]) -> None:
    ours, theirs = lines
    said = (About(pid=1, address="a:1"), Ask(secret="s"), Go(), Refused("why"))
    for message in said:
        ours.send(message)
    assert tuple(theirs.receive(PATIENCE_S)[0] for _ in said) == said


def test_another_releases_message_with_further_fields_is_read(lines: tuple[Line, Line]) -> None:
    ours, theirs = lines
    ours._end.send(b'{"type":"Refused","why":"w","more":[1]}')
    assert theirs.receive(PATIENCE_S)[0] == Refused("w")


@pytest.mark.parametrize("data", [b"{", b'{"type":"Other"}', b'{"type":"Refused"}', b"\xff"])
def test_what_is_no_message_is_refused_and_its_descriptors_are_closed(lines: tuple[Line, Line], data: bytes) -> None:
    ours, theirs = lines
    read, write = os.pipe()
    socket.send_fds(ours._end, [data], [write])
    os.close(write)
    with pytest.raises(ProtocolError, match="expected a message of a takeover: "):
        theirs.receive(PATIENCE_S)
    assert os.read(read, 10) == b"", "no write end is left"
    os.close(read)


def test_the_end_of_the_other_side_is_no_message_and_nothing_can_be_sent_any_more(lines: tuple[Line, Line]) -> None:
    ours, theirs = lines
    theirs.close()
    assert ours.receive(PATIENCE_S) == (None, [])
    with pytest.raises(OSError, match="Broken pipe"):
        ours.send(Go())


def test_silence_is_a_time_out(lines: tuple[Line, Line]) -> None:
    with pytest.raises(TimeoutError):
        lines[0].receive(0.01)


def test_the_last_word_is_what_was_sent_before_and_who_speaks_later_finds_out(lines: tuple[Line, Line]) -> None:
    ours, theirs = lines
    theirs.send(Taken())
    assert ours.last_word() == Taken()
    with pytest.raises(OSError, match="Broken pipe"):
        theirs.send(Taken())


def test_without_a_word_the_last_one_is_none_and_who_speaks_later_finds_out(lines: tuple[Line, Line]) -> None:
    ours, theirs = lines
    assert ours.last_word() is None
    with pytest.raises(OSError, match="Broken pipe"):
        theirs.send(Taken())


def test_the_process_at_the_other_end_and_its_user_are_known(lines: tuple[Line, Line]) -> None:
    assert (lines[0].peer_pid, lines[0].of_our_user) == (os.getpid(), True)
