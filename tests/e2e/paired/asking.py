"""vLLM's own server and `headgate serve` of the same model by the same flags, and what they answer over HTTP."""

import http.client
import json
import re
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import pytest

from tests.conftest import WORK_S, wait_until
from tests.e2e.paired.cases import MODEL, Case

#: Given to both, word for word.
FLAGS = (
    "--dtype float32 --kv-cache-memory-bytes 64M --block-size 32 --enforce-eager --max-model-len 512"
    f" --distributed-executor-backend uni --served-model-name {MODEL} --host 127.0.0.1"
    " --enable-auto-tool-choice --tool-call-parser hermes --enable-prompt-tokens-details"
    " --enable-tokenizer-info-endpoint --enable-scale-out"
).split()
#: Of the headers of an answer, those that clients act upon.
_HEADERS = ("content-type", "allow", "location", "www-authenticate", "retry-after", "x-should-retry")
#: As a last event: the connection ended before the answer did.
BROKEN = b'{"broken": true}'
_EVENT = re.compile(r"(?:event: (?P<name>[^\n]*)\n)?data: (?P<data>.*)", re.DOTALL)


@dataclass(frozen=True)
class Answer:
    """`body`: JSON, the events of a stream as `{"events", "names", "done"}`, or a text."""

    status: int
    headers: dict[str, str]
    body: Any


class Server(Protocol):
    url: str

    def close(self) -> None: ...


class _Process:
    def __init__(self, module: str, *words: str, env: dict[str, str], piped: bool) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hg-")
        self._log = (Path(self._folder.name) / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", module, *words],
            stdout=subprocess.PIPE if piped else self._log,
            stderr=self._log,
            env={**env, "TMPDIR": self._folder.name},
        )

    def log(self) -> str:
        self._log.flush()
        return (Path(self._folder.name) / "log").read_text()[-4000:]

    def close(self) -> None:
        self.process.terminate()
        wait_until(lambda: self.process.poll() is not None, lambda: "it does not end")
        if self.process.stdout is not None:
            self.process.stdout.close()
        self._log.close()
        self._folder.cleanup()


class Vllm(_Process):
    """`vllm serve`, by the module's name: vLLM's build for CPUs has no such command."""

    def __init__(self, model: Path, env: dict[str, str]) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        words = ["--model", str(model), *FLAGS, "--port", str(port)]
        super().__init__("vllm.entrypoints.openai.api_server", *words, env=env, piped=False)
        self.url = f"http://127.0.0.1:{port}"

    def ready(self) -> "Vllm":
        give_up = time.monotonic() + WORK_S
        while self.process.poll() is None and time.monotonic() < give_up:
            try:
                if ask(self, Case("", "GET", "/health")).status == 200:
                    return self
            except OSError:
                time.sleep(0.2)
        pytest.fail(f"vLLM's server does not start:\n{self.log()}")


class Headgate(_Process):
    def __init__(self, model: Path, env: dict[str, str]) -> None:
        words = ["serve", str(model), *FLAGS, "--port", "0", "--admin-port", "0", "--json"]
        super().__init__("router.cli.main", *words, env=env, piped=True)

    def ready(self) -> "Headgate":
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "serving":
                self.url = event["url"]
                return self
        pytest.fail(f"Headgate does not start:\n{self.log()}")


def ask(server: Server, case: Case) -> Answer:
    where = urlsplit(server.url)
    assert where.hostname is not None
    connection = http.client.HTTPConnection(where.hostname, where.port, timeout=WORK_S)
    try:
        connection.request(case.method, case.path, case.body, dict(case.headers))
        response = connection.getresponse()
        try:
            data = response.read()
        except http.client.IncompleteRead as broken:
            data = broken.partial + b"\n\ndata: " + BROKEN
        headers = {name: value for name in _HEADERS if (value := response.getheader(name)) is not None}
        return Answer(response.status, headers, _read(data, headers.get("content-type", "")))
    finally:
        connection.close()


def _read(data: bytes, type: str) -> Any:
    if type.startswith("text/event-stream"):
        return _events(data.decode())
    if type.startswith("application/json") and data:
        return json.loads(data)
    return data.decode()


def _events(text: str) -> dict[str, Any]:
    found = [match for part in text.split("\n\n") if (match := _EVENT.fullmatch(part.strip("\n")))]
    done = bool(found) and found[-1]["data"] == "[DONE]"
    if done:
        found.pop()
    names = [match["name"] for match in found]
    return {"events": [json.loads(match["data"]) for match in found], "names": names, "done": done}
