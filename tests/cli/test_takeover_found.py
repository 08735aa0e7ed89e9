"""Which running server a takeover finds, and what it makes of one that is of another release, breaks off or lies."""

import contextlib
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.cli.takeover import TakeoverError, begin
from router.config import Config, Member, Server
from router.errors import ConfigError, HeadgateError
from router.ipc.handover import SOCKET_NAME, About, Ask, Go, Held, Line, Message, Offer, Refused
from tests.conftest import PATIENCE_S

CONFIG = Config(pool=(Member(name="m", model="x"),), server=Server(port=8000))
ABOUT = About(pid=os.getpid(), address="127.0.0.1:8000")
HELD = (Held(name="m", settings={"model": "x"}),)


def offer(**fields: Any) -> Offer:
    given = {
        "files": (),
        "admin": "127.0.0.1:8001",
        "folder": "/f",
        "made": True,
        "engines": HELD,
        "hosts": 0,
        **fields,
    }
    return Offer(**given)  # type: ignore[arg-type]


class Running:
    """A server that says these messages, each after what it has heard, and breaks off."""

    def __init__(self, root: Path, about: Message, *then: Message) -> None:
        folder = Path(tempfile.mkdtemp(prefix="headgate-", dir=root))
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(folder / SOCKET_NAME))
        self._listener.listen()
        self._listener.settimeout(PATIENCE_S)
        self._said = (about, then)
        self.heard: Message | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(OSError):
            line = Line(self._listener.accept()[0])
            about, then = self._said
            line.send(about)
            self.heard, _ = line.receive(PATIENCE_S)
            for message in then:
                line.send(message)
            line.close()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE_S)


Run = Callable[..., Running]


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    made: list[Running] = []
    with tempfile.TemporaryDirectory(prefix="hg-") as root:
        monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
        monkeypatch.setenv("TMPDIR", root)

        def start(*said: Message) -> Running:
            made.append(Running(Path(root), *said))
            return made[-1]

        yield start
        for each in made:
            each.close()


@pytest.mark.parametrize(
    ("about", "what"),
    [
        ({"handover": 99}, "has protocol 99 of takeovers, this release"),
        ({"frames": 99}, "has protocol 99 of its engine hosts' frames, this release"),
    ],
)
def test_a_server_of_another_protocol_is_not_taken_over(running: Run, about: dict[str, int], what: str) -> None:
    server = running(About(pid=7, address="127.0.0.1:8000", release="9.9", **about))
    with pytest.raises(ConfigError, match=what) as refused:
        begin(CONFIG)
    assert "the running server (process 7, release 9.9)" in str(refused.value)
    assert "end it and start this one" in str(refused.value)
    server.close()
    assert server.heard is None, "nothing was asked for"


@pytest.mark.parametrize(
    ("then", "error", "why"),
    [
        ((), TakeoverError, "expected an offer, got NoneType"),
        ((Go(),), TakeoverError, "expected an offer, got Go"),
        ((Refused("no"),), TakeoverError, "^no$"),
        ((offer(),), TakeoverError, "expected an offer, got Offer"),
        ((offer(files=("takeover",)),), TakeoverError, "expected an offer, got Offer"),
    ],
)
def test_a_server_that_offers_nothing_whole_is_not_taken_over(
    running: Run, then: tuple[Message, ...], error: type[HeadgateError], why: str
) -> None:
    server = running(ABOUT, *then)
    with pytest.raises(error, match=why):
        begin(CONFIG)
    server.close()
    assert server.heard == Ask(mps=True)


def test_of_several_servers_the_one_of_the_address_is_asked(running: Run) -> None:
    other = running(About(pid=1, address="127.0.0.1:9000"))
    ours = running(ABOUT, Refused("it was asked"))
    with pytest.raises(TakeoverError, match="it was asked"):
        begin(CONFIG)
    other.close()
    assert (other.heard, ours.heard) == (None, Ask(mps=True))


def test_of_two_servers_of_one_address_none_is_asked(running: Run) -> None:
    servers = [running(About(pid=pid, address="127.0.0.1:8000")) for pid in (1, 2)]
    with pytest.raises(TakeoverError, match=r"several servers listen on 127.0.0.1:8000 \(processes [12], [12]\)"):
        begin(CONFIG)
    for server in servers:
        server.close()
        assert server.heard is None


def test_what_is_no_server_is_passed_over(running: Run) -> None:
    running(Go())
    with pytest.raises(TakeoverError, match="there is no running server of this user on"):
        begin(CONFIG)


def test_a_socket_that_nobody_listens_on_any_more_is_passed_over(running: Run) -> None:
    server = running(ABOUT)
    server.close()
    with pytest.raises(TakeoverError, match="there is no running server"):
        begin(CONFIG)
