"""Real engines are replaced, and a canary promoted, while answers stream: none is cut, none fails."""

import json
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from router.cli.main import main
from tests.e2e.test_vllm_serve import Server

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

ENGINE_ARGS = {
    "dtype": "float32", "kv_cache_memory_bytes": "64M", "block_size": 32, "enforce_eager": True, "max_model_len": 512,
    "distributed_executor_backend": "uni",
}  # fmt: skip


@pytest.fixture(scope="module")
def server(pair: Path, engine_env: dict[str, str]) -> Iterator[Server]:
    server = Server(pair / "small", engine_env)
    yield server
    server.close()


class Streams:
    """Answers of 24 tokens, one after another, by the member's name."""

    def __init__(self, server: Server) -> None:
        self.answers: Counter[str] = Counter()
        self.faults: list[str] = []
        self._over = threading.Event()
        self._url = server.url
        self._clients = [threading.Thread(target=self._run, args=(i,)) for i in range(3)]
        for client in self._clients:
            client.start()

    def _run(self, client: int) -> None:
        body: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "7 + 8?"}], "stream": True}
        body |= {"max_tokens": 24, "min_tokens": 24, "temperature": 0, **({"logprobs": True} if client == 0 else {})}
        while not self._over.is_set():
            request = urllib.request.Request(
                self._url + "/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
            )
            try:
                with urllib.request.urlopen(request, timeout=300) as response:
                    name, text = response.headers["x-headgate-model"], response.read()
            except Exception as error:
                self.faults.append(repr(error))
                return
            if not text.endswith(b"data: [DONE]\n\n") or b'"error"' in text or b'"model":"tiny"' not in text:
                self.faults.append(text.decode()[-500:])
            self.answers[name] += 1

    def end(self) -> None:
        self._over.set()
        for client in self._clients:
            client.join(300)


def test_a_replaced_engine_and_a_promoted_canary_cut_no_answer(
    server: Server, pair: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "member.yaml"
    file.write_text(json.dumps({"model": str(pair / "small"), "engine_args": ENGINE_ARGS}))
    address = server.admin.removeprefix("http://")

    def members(*words: str) -> None:
        assert main(["members", *words, "--admin", address]) == 0, capsys.readouterr()

    streams = Streams(server)
    try:
        (before,) = server.ask("/members", admin=True)[1]["members"]
        members("replace", "tiny", str(file))
        (after,) = server.ask("/members", admin=True)[1]["members"]
        assert (before["name"], after["name"]) == ("tiny", "tiny")
        assert before["pid"] != after["pid"]
        members("add", str(file), "--name", "next", "--replaces", "tiny", "--weight", "0.5")
        page = urllib.request.urlopen(server.url + "/metrics", timeout=60).read().decode()
        assert 'member="tiny"' in page
        assert 'member="next"' in page
        members("promote", "tiny")
        page = urllib.request.urlopen(server.url + "/metrics", timeout=60).read().decode()
        assert 'member="tiny"' in page
        assert 'member="next"' not in page
    finally:
        streams.end()
    assert streams.faults == []
    assert streams.answers["tiny"] > 0
    changes = server.ask("/members", admin=True)[1]["changes"]
    assert [(change["what"], change["stage"], change["cut"]) for change in changes] == [
        ("replace", "done", 0), ("add", "done", 0), ("promote", "done", 0),
    ]  # fmt: skip
    assert [card["id"] for card in server.ask("/v1/models")[1]["data"]] == ["tiny", "other"]
