"""A client that sends far more than it may: other clients' streams go on, signals are heard, memory is given back."""

import contextlib
import json
import os
import selectors
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

KEY = "right"
STREAMS = 16
#: The processor time that the server may spend while another stream gets no byte: far above what is measured (under
#: 0.1 s), and far below what one turn of the loop for all would take. Of the wall, a busy machine takes any amount.
MOST_S = 2.0


def chat(*headers: str, stream: bool = False, steps: Any = None, **fields: Any) -> bytes:
    body = {"model": "auto", "messages": [{"role": "user", "content": "what is 2 + 2?"}], "stream": stream, **fields}
    if steps is not None:
        body["user"] = json.dumps(steps)
    data = json.dumps(body).encode()
    lines = "".join(f"{line}\r\n" for line in ("content-type: application/json", *headers))
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\n{lines}content-length: {len(data)}\r\n\r\n"
    return head.encode() + data


def connect(server: Any) -> socket.socket:
    where = urlsplit(server.url)
    client = socket.create_connection((where.hostname, where.port), timeout=60)
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return client


def spent_s(pid: int) -> float:
    """Processor time of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Watched:
    """Streams that get an event each 20 ms, and the longest that one of them went without, by the server's own time."""

    def __init__(self, server: Any) -> None:
        self.longest_s = 0.0
        self._ended = False
        self._pid = server.process.pid
        self._selector = selectors.DefaultSelector()
        steps = [step for _ in range(3000) for step in (["chunk", 'data: {"n":1}\n\n'], ["sleep", 0.02])]
        for _ in range(STREAMS):
            client = connect(server)
            client.sendall(chat(f"x-api-key: {KEY}", stream=True, steps=steps))
            assert client.recv(1 << 16).startswith(b"HTTP/1.1 200")
            self._selector.register(client, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        clients = [key.fileobj for key in self._selector.get_map().values()]
        heard = dict.fromkeys(clients, spent_s(self._pid))
        while not self._ended:
            ready = self._selector.select(0.05)
            now = spent_s(self._pid)
            for key, _ in ready:
                assert isinstance(key.fileobj, socket.socket)
                if key.fileobj.recv(1 << 16):
                    self.longest_s = max(self.longest_s, now - heard[key.fileobj])
                    heard[key.fileobj] = now
            self.longest_s = max(self.longest_s, now - min(heard.values()))

    def close(self) -> None:
        if self._ended:
            return
        self._ended = True
        self._thread.join()
        for key in tuple(self._selector.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
        self._selector.close()


@pytest.fixture
def watch() -> Iterator[Callable[[Any], Watched]]:
    watched: list[Watched] = []

    def start(server: Any) -> Watched:
        watched.append(Watched(server))
        return watched[-1]

    yield start
    for each in watched:
        each.close()


def get(path: str, *headers: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nhost: a\r\n{''.join(f'{line}{chr(13)}{chr(10)}' for line in headers)}\r\n".encode()


KINDS = {
    "metrics": get("/metrics"),
    "unknown paths": get("/v1/chat/complitions"),
    "chats": chat(f"x-api-key: {KEY}"),
    "chats refused for their body": chat(f"x-api-key: {KEY}", n=0),
    "chats refused for their key": chat("x-api-key: wrong"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pipelined_requests_stop_no_other_stream(
    serve: Any, config: Callable[..., Path], watch: Callable[[Any], Watched], kind: str
) -> None:
    """10 MB of them, for some seconds or until all have been answered, read as fast as they are answered."""
    server = serve(config(server={"port": 0, "admin_port": 0, "api_keys": [KEY]}))
    watched = watch(server)
    bad = connect(server)
    count = 10_000_000 // len(KINDS[kind])
    sender = threading.Thread(target=_send, args=(bad, KINDS[kind] * count))
    sender.start()
    until, answers, read = time.monotonic() + 3.0, 0, b""
    while answers < count and (time.monotonic() < until or answers <= 50):
        data = bad.recv(1 << 20)
        assert data
        read = read[-len(b"HTTP/1.1") :] + data
        answers += read.count(b"HTTP/1.1 ")
    assert answers > 50
    assert watched.longest_s < MOST_S
    watched.close()
    server.signal(signal.SIGTERM)
    bad.close()
    sender.join()
    assert server.end()[0] == 0


def test_a_signal_is_heard_among_pipelined_requests(serve: Any, config: Callable[..., Path]) -> None:
    server = serve(config())
    one = get("/v1/chat/complitions")
    crowd = [connect(server) for _ in range(20)]
    senders = [threading.Thread(target=_send, args=(bad, one * (10_000_000 // len(one)))) for bad in crowd]
    for sender in senders:
        sender.start()
    assert crowd[0].recv(1 << 20).startswith(b"HTTP/1.1 404")
    server.signal(signal.SIGTERM)
    assert server.end()[0] == 0
    for bad in crowd:
        bad.close()
    for sender in senders:
        sender.join()


def _send(client: socket.socket, data: bytes) -> None:
    with contextlib.suppress(OSError):  # cut off
        client.sendall(data)


def rss_mb(server: Any) -> float:
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS"))


def push(clients: list[socket.socket], data: bytes, most_s: float = 5.0) -> int:
    """Send as much of `data` to each as is taken, until none takes any for half a second. The bytes taken."""
    at, last = [0] * len(clients), time.monotonic()
    until = last + most_s
    while time.monotonic() < min(until, last + 0.5):
        for number, client in enumerate(clients):
            with contextlib.suppress(BlockingIOError):
                sent = client.send(data[at[number] : at[number] + (1 << 20)])
                at[number] += sent
                last = time.monotonic() if sent else last
        time.sleep(0.001)
    return sum(at)


def test_what_a_client_sends_without_reading_takes_no_memory(serve: Any, config: Callable[..., Path]) -> None:
    """157 MB of small requests: they wait in the client's own buffers."""
    server = serve(config())
    bad = connect(server)
    bad.setblocking(False)
    before = rss_mb(server)
    one = get("/version")
    taken = push([bad], one * (157_000_000 // len(one)))
    assert rss_mb(server) - before < 20
    assert taken < 30_000_000
    bad.close()


@pytest.mark.parametrize("small", [True, False], ids=["small requests", "large requests"])
def test_requests_behind_a_running_stream_take_little_memory(
    serve: Any, config: Callable[..., Path], small: bool
) -> None:
    server = serve(config())
    one = get("/version") if small else chat(pad="a" * 60_000)
    crowd = [connect(server) for _ in range(50)]
    for bad in crowd:
        bad.sendall(chat(stream=True, steps=[["chunk", "data: a\n\n"], ["sleep", 600]]))
        assert bad.recv(1 << 16).startswith(b"HTTP/1.1 200")
        bad.setblocking(False)
    before = rss_mb(server)
    push(crowd, one * (4_400_000 // len(one)))
    assert rss_mb(server) - before < 50 * 0.6
    for bad in crowd:
        bad.close()
    with server.open("/health") as response:
        assert response.status == 200
