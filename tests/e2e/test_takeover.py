"""A real engine is taken over in mid-answer, is lost then and comes back. One server, tests in order."""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import PATIENCE_S, WORK_S, wait_until
from tests.e2e.test_serve import LONG, SUM, Server

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def server(pair: Path, engine_args: dict[str, Any], engine_env: dict[str, str]) -> Iterator[Server]:
    args = {name: value for name, value in engine_args.items() if name != "max_model_len"}
    config = {
        "server": {"port": 0, "admin_port": 0},
        "pool": [{"name": "large", "model": str(pair / "large"), "strength": 0.5, "engine_args": args}],
        "supervision": {"backoff_s": 0.2},
    }
    with contextlib.closing(Server(config, engine_env)) as server:
        server.wait_ready()
        yield server


class Readers:
    """Two that read long streams, one after another, until `stop`. What each stream brought is noted."""

    def __init__(self, server: Server) -> None:
        self.begun = threading.Semaphore(0)
        self.ends: list[tuple[int, str | None]] = []  #: tokens, finish reason
        self.fault: Exception | None = None
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(server.url,)) for _ in range(2)]
        for thread in self._threads:
            thread.start()

    def _run(self, url: str) -> None:
        try:
            with openai.OpenAI(base_url=url + "/v1", api_key="none", max_retries=0) as client:
                while not self._stop.is_set():
                    self._read(client)
        except Exception as error:
            self.fault = error
            self.begun.release()

    def _read(self, client: openai.OpenAI) -> None:
        tokens, finish_reason = 0, None
        usage: Any = {"stream_options": {"include_usage": True}}
        for chunk in client.chat.completions.create(model="large", messages=SUM, stream=True, **usage, **LONG):
            self.begun.release()
            for choice in chunk.choices:
                finish_reason = choice.finish_reason or finish_reason
            tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        self.ends.append((tokens, finish_reason))

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WORK_S)


def test_long_answers_end_whole_while_a_new_process_takes_their_engine_over(server: Server) -> None:
    engine = server.members()["large"]["pid"]
    readers = Readers(server)
    assert readers.begun.acquire(timeout=PATIENCE_S)
    begun_s = time.monotonic()
    server.process.send_signal(signal.SIGUSR2)
    server.wait_ready()
    print(f"\nfrom SIGUSR2 until the new process served: {time.monotonic() - begun_s:.1f} s")
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        answer = client.chat.completions.create(model="large", messages=SUM, max_tokens=8)
    assert answer.choices[0].message.content
    readers.stop()
    assert readers.fault is None
    assert set(readers.ends) == {(LONG["max_tokens"], "length")}
    assert server.process.wait(PATIENCE_S * 2) == 0, server.said()
    assert server.members()["large"]["pid"] == engine
    assert "serves now: 0 running" not in server.said()
    assert "Traceback" not in server.said()


def test_the_engine_that_was_taken_over_is_killed_and_comes_back(server: Server) -> None:
    engine = server.members()["large"]["pid"]
    os.kill(engine, signal.SIGKILL)
    wait_until(lambda: server.members()["large"]["pid"] != engine, lambda: server.members())
    server.wait_back("large")
    with openai.OpenAI(base_url=server.url + "/v1", api_key="none", max_retries=0) as client:
        assert client.chat.completions.create(model="large", messages=SUM, max_tokens=8).choices[0].message.content


def test_a_signal_ends_the_new_process_with_all_of_its_engine(server: Server) -> None:
    (frontend,) = (pid for pid in pids_of(server) if b"router.cli.main" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(frontend, signal.SIGTERM)
    wait_until(lambda: not server.processes(), server.processes)
    assert "Traceback" not in server.said()


def pids_of(server: Server) -> list[int]:
    """All processes of the server that live."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and server.folder.name in (entry / "environ").read_text():
                found.append(int(entry.name))
        except OSError:
            continue
    return found
