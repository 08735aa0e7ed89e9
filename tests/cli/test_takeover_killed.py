"""Either process of a takeover killed while the new one is not ready yet: a member by URL keeps it waiting."""

import json
import signal
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from router.ipc.handover import Offer
from tests.cli.test_change_members import models
from tests.cli.test_takeover import alive, answers, hosts_of
from tests.conftest import PATIENCE_S, wait_until

ENGINE = {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9}


class Upstream:
    """Lists its one model, or lets whoever asks wait until `go_on`."""

    def __init__(self) -> None:
        self.may_answer = threading.Event()
        self.waiting = threading.Event()
        self.may_answer.set()
        upstream = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if not upstream.may_answer.is_set():
                    upstream.waiting.set()
                    upstream.may_answer.wait(PATIENCE_S)
                body = json.dumps({"object": "list", "data": [{"id": "small"}]}).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self.member = {"name": "small", "kind": "openai", "url": url, "strength": 0.1}

    def hold(self) -> None:
        self.may_answer.clear()

    def close(self) -> None:
        self.may_answer.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE_S)


@pytest.fixture
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    yield upstream
    upstream.close()


Half = Callable[..., tuple[Any, Any, int]]


@pytest.fixture
def half(serve: Any, taking: Any, config: Callable[..., Path], upstream: Upstream) -> Half:
    """A server of these members, a new process that has joined the engine and waits, and the engine's process."""

    def take(*pool: dict[str, Any]) -> tuple[Any, Any, int]:
        rare = {"backoff_s": 0.1, "stop_timeout_s": 2.0, "ping_s": 3600.0, "ping_timeout_s": 36_000.0}
        file = config(pool=pool, supervision=rare)  # only a start asks the upstream
        old = serve(file)
        upstream.hold()
        new = taking(old, file, ready=False)
        wait_until(upstream.waiting.is_set)
        while not any((event["event"], event.get("member")) == ("ready", "large") for event in new.events):
            new.next_event()
        return old, new, hosts_of(old)["large"]

    return take


def test_the_new_process_is_killed_before_it_is_ready_and_the_old_one_serves_on(
    half: Half, taking: Any, upstream: Upstream, tmp_path: Path
) -> None:
    old, new, host = half(ENGINE, upstream.member)
    new.signal(signal.SIGKILL)
    new.end()
    old.wait_said("did not take over: it ended; this server goes on")
    assert hosts_of(old)["large"] == host
    answers(old)
    upstream.may_answer.set()
    third = taking(old, tmp_path / "headgate.yaml")
    assert old.end()[0] == 0
    assert hosts_of(third)["large"] == host
    answers(third)


def test_a_signal_ends_a_new_process_that_is_not_ready_and_the_old_one_serves_on(
    half: Half, upstream: Upstream
) -> None:
    old, new, host = half(ENGINE, upstream.member)
    new.signal(signal.SIGTERM)
    code, error = new.end()
    assert (code, "Traceback" in error) == (0, False), error
    old.wait_said("this server goes on")
    assert hosts_of(old)["large"] == host
    answers(old)


def test_the_old_process_is_ended_in_mid_takeover_and_the_new_one_says_so(half: Half, upstream: Upstream) -> None:
    old, new, _ = half(ENGINE, upstream.member)
    old.signal(signal.SIGTERM)
    code, error = old.end()
    assert (code, "Traceback" in error) == (0, False), error
    upstream.may_answer.set()
    code, error = new.end()
    assert (code, "Traceback" in error) == (1, False), error
    assert f"process {old.process.pid} gave nothing up: it is ending" in error
    old.wait_childless()


def test_the_old_process_is_killed_once_the_new_one_has_joined_the_engines_and_that_one_serves(
    half: Half, upstream: Upstream
) -> None:
    old, new, host = half(ENGINE, upstream.member)
    old.signal(signal.SIGKILL)
    old.end()
    upstream.may_answer.set()
    while not new.events or new.events[-1]["event"] != "serving":
        new.next_event()
    new.url, new.admin = new.events[-1]["url"], new.events[-1]["admin_url"]
    assert new.url == old.url
    assert hosts_of(new)["large"] == host
    answers(new)
    new.signal(signal.SIGTERM)
    code, error = new.end()
    assert (code, "Traceback" in error) == (0, False), error
    wait_until(lambda: not alive(host))


def test_the_old_process_is_killed_before_the_new_one_has_joined_the_engines_and_they_end(
    serve: Any, usurp: Any, config: Callable[..., Path]
) -> None:
    old = serve(config())
    hosts = hosts_of(old)
    usurper = usurp(old)
    assert isinstance(usurper.ask(), Offer)
    old.signal(signal.SIGKILL)
    old.end()
    wait_until(lambda: not any(alive(pid) for pid in hosts.values()))
    assert usurper.hear() is None


def test_a_sighup_while_the_new_process_is_not_ready_is_done_once_it_has_taken_over(
    half: Half, upstream: Upstream, config: Callable[..., Path]
) -> None:
    old, new, host = half(ENGINE, upstream.member)
    medium = {"name": "medium", "model": "stub", "strength": 0.5}
    config(pool=[ENGINE, upstream.member, medium])
    new.signal(signal.SIGHUP)
    new.wait_said("SIGHUP: the file is read again once this server serves")
    assert models(old) == ["auto", "large", "small"]
    upstream.may_answer.set()
    while not new.events or new.events[-1]["event"] != "serving":
        new.next_event()
    new.url, new.admin = new.events[-1]["url"], new.events[-1]["admin_url"]
    wait_until(lambda: models(new) == ["auto", "large", "small", "medium"], lambda: new.errors)
    assert hosts_of(new)["large"] == host
    assert old.end()[0] == 0
