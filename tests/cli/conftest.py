"""A small checkpoint, a config over stub hosts, and `headgate serve` as a process."""

import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router.heads.checkpoint import FORMAT, Metadata, ModelRecord, write
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab
from tests.cli.usurper import Usurper
from tests.conftest import PATIENCE_S, wait_until


def write_checkpoint(path: Path) -> None:
    """Two models of the field's names; its scores mean nothing."""
    tokens = ["[UNK]", "what", "is", *map(chr, range(33, 127))]
    vocab, longest = build_vocab(tokens)
    spec = EncoderSpec(pieces=len(tokens), unk=0, max_piece=longest, word_rows=1024)
    models = (
        ModelRecord(name="llama-3.1-8b-instruct", strength=0.44, size_b=8),
        ModelRecord(name="llama-3.1-70b-instruct", strength=0.63, size_b=70),
    )
    arrays = {
        "table": np.zeros((spec.rows, 16), np.float16),
        "vocab": vocab,
        "vectors": np.zeros((2, 16), np.float32),
        "bias": np.array([-0.2, 1.5], np.float32),
    }
    write(path, Metadata(format=FORMAT, encoder=spec, models=models), arrays)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("checkpoint") / "small.safetensors"
    write_checkpoint(path)
    return path


@pytest.fixture
def config(tmp_path: Path, checkpoint: Path) -> Callable[..., Path]:
    """Writes a headgate.yaml; arguments replace branches of it."""

    def write_config(**branches: Any) -> Path:
        tree = {
            "server": {"port": 0, "admin_port": 0},
            "pool": [
                {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1},
                {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9},
            ],
            "routing": {"checkpoint": str(checkpoint), "price": 0.0},
            "supervision": {"backoff_s": 0.1, "stop_timeout_s": 2.0},
            **branches,
        }
        path = tmp_path / "headgate.yaml"
        path.write_text(json.dumps(tree))
        return path

    return write_config


class Serve:
    """`headgate serve` over scripted hosts."""

    def __init__(
        self,
        root: Path,
        *args: str,
        env: dict[str, str] | None = None,
        ready: bool = True,
        program: str = "router.cli.main",
    ) -> None:
        host = f"{sys.executable} -P {root / 'tests' / 'pool' / 'scripted_host.py'}"
        self.folder = tempfile.TemporaryDirectory(prefix="hg-")
        environment = {**os.environ, "TMPDIR": self.folder.name, **(env or {})}
        environment.pop("XDG_RUNTIME_DIR", None)
        self.process = subprocess.Popen(
            [sys.executable, "-m", program, "serve", "--json", "--host-command", host, *args],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment,
            text=True,
        )
        self.events: list[dict[str, Any]] = []
        self.errors = ""  #: standard error so far
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._readers = [threading.Thread(target=read, daemon=True) for read in (self._read_events, self._read_errors)]
        for reader in self._readers:
            reader.start()
        if ready:
            while not self.events or self.events[-1]["event"] != "serving":
                self.next_event()
            self.url, self.admin = self.events[-1]["url"], self.events[-1]["admin_url"]

    def _read_events(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put("")

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.errors += line

    def next_event(self) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=PATIENCE_S)
        except queue.Empty:
            pytest.fail(f"no event within {PATIENCE_S:g} s after {self.events}; standard error: {self.errors}")
        if not line:
            pytest.fail(f"standard output ended after {self.events}; standard error: {self.end()[1]}")
        self.events.append(json.loads(line))
        return self.events[-1]

    def wait_said(self, text: str) -> None:
        """Until `text` is in standard error."""
        wait_until(lambda: text in self.errors, lambda: self.errors)

    def post(self, body: dict[str, Any], headers: dict[str, str] | None = None, timeout: float = PATIENCE_S) -> Any:
        return self.open("/v1/chat/completions", body, headers, timeout)

    def open(
        self,
        path: str,
        body: Any = None,
        headers: dict[str, str] | None = None,
        timeout: float = PATIENCE_S,
        admin: bool = False,
    ) -> Any:
        data = None if body is None else json.dumps(body).encode()
        url = (self.admin if admin else self.url) + path
        request = urllib.request.Request(url, data, {"content-type": "application/json", **(headers or {})})
        return urllib.request.urlopen(request, timeout=timeout)

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    def end(self) -> tuple[int, str]:
        """Exit code and standard error."""
        self.process.wait(PATIENCE_S)
        for reader in self._readers:
            reader.join(PATIENCE_S)
        return self.process.returncode, self.errors

    def children(self) -> list[int]:
        """Process ids that this server started, dead parents' included."""
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if self.folder.name in (entry / "environ").read_text() and int(entry.name) != self.process.pid:
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def wait_childless(self) -> None:
        wait_until(lambda: not self.children(), lambda: f"left behind: {self.children()}")

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.end()
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        self.folder.cleanup()


@pytest.fixture
def serve(root: Path) -> Iterator[Callable[..., Serve]]:
    started: list[Serve] = []

    def start(*args: str | Path, **options: Any) -> Serve:
        started.append(Serve(root, *map(str, args), **options))
        return started[-1]

    yield start
    for server in started:
        server.close()


@pytest.fixture
def taking(serve: Callable[..., Any]) -> Callable[..., Any]:
    """A new process that takes over from `old`."""
    folders: dict[int, str] = {}  # of processes that took over, where the first made its own

    def take(old: Any, *args: str | Path, **options: Any) -> Any:
        folder = folders.get(id(old), old.folder.name)
        new = serve(*args, "--takeover", env={**options.pop("env", {}), "TMPDIR": folder}, **options)
        folders[id(new)] = folder
        return new

    return take


@pytest.fixture
def usurp() -> Iterator[Callable[[Serve], Usurper]]:
    made: list[Usurper] = []

    def dial(server: Serve) -> Usurper:
        made.append(Usurper(server))
        return made[-1]

    yield dial
    for each in made:
        each.end()
