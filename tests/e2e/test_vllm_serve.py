"""`headgate serve MODEL --flag ...` with a real engine, as a client of `vllm serve` finds it."""

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import PATIENCE_S, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

FLAGS = (
    "--dtype float32 --kv-cache-memory-bytes 64M --block-size 32 --enforce-eager --max-model-len 512"
    " --distributed-executor-backend uni --served-model-name tiny other --host 127.0.0.1 --port 0 --admin-port 0 --json"
)


class Server:
    """One `headgate serve` of one model."""

    def __init__(self, model: Path, env: dict[str, str]) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hg-")
        self._log = (Path(self._folder.name) / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "router.cli.main", "serve", str(model), *FLAGS.split()],
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env={**env, "TMPDIR": self._folder.name},
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event: dict[str, Any] = json.loads(line)
            if event["event"] == "serving":
                self.url, self.admin = event["url"], event["admin_url"]
                return
        self._log.seek(0)
        pytest.fail(self._log.read()[-3000:])

    def ask(
        self, path: str, body: Any = None, type: str = "application/json", *, admin: bool = False
    ) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request((self.admin if admin else self.url) + path, data, {"content-type": type})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def close(self) -> None:
        self.process.terminate()
        wait_until(lambda: self.process.poll() is not None, lambda: "it does not end")
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        self._folder.cleanup()


@pytest.fixture(scope="module")
def server(pair: Path, engine_env: dict[str, str]) -> Iterator[Server]:
    server = Server(pair / "small", engine_env)
    yield server
    server.close()


def test_it_answers_under_each_of_its_names(server: Server) -> None:
    status, models = server.ask("/v1/models")
    assert (status, [model["id"] for model in models["data"]]) == (200, ["auto", "tiny", "other"])
    assert {model["max_model_len"] for model in models["data"]} == {None, 512}
    for name in ("tiny", "other", "auto"):
        body = {"model": name, "messages": [{"role": "user", "content": "1 + 1?"}], "max_tokens": 4}
        status, answer = server.ask("/v1/chat/completions", body)
        assert (status, answer["model"]) == (200, "tiny")


def test_probes_tell_what_vllms_tell(server: Server) -> None:
    import vllm

    assert server.ask("/version")[1]["version"] == vllm.__version__
    assert server.ask("/health")[0] == server.ask("/ping")[0] == server.ask("/ping", {})[0] == 200
    assert server.ask("/load") == (200, {"server_load": 0})


def test_an_invocation_is_a_chat_or_a_completion(server: Server) -> None:
    chat = {"messages": [{"role": "user", "content": "1 + 1?"}], "max_tokens": 2}
    assert server.ask("/invocations", chat)[1]["object"] == "chat.completion"
    assert server.ask("/invocations", {"prompt": "1 +", "max_tokens": 2})[1]["object"] == "text_completion"


def test_vllms_engine_routes_are_asked_on_the_admin_port(server: Server) -> None:
    assert server.ask("/members/tiny/is_sleeping", admin=True) == (200, {"is_sleeping": False})
    assert server.ask("/members/tiny/reset_prefix_cache", {}, admin=True) == (200, {"success": True})
    status, answer = server.ask("/members/tiny/sleep?level=7", {}, admin=True)
    assert (status, "level" in answer["error"]["message"]) == (400, True)
    assert server.ask("/health")[0] == 200


def test_an_engine_that_sleeps_gets_no_requests_until_it_is_woken(server: Server) -> None:
    body = {"prompt": "1 +", "max_tokens": 2}
    assert server.ask("/members/tiny/sleep?level=1", {}, admin=True)[0] == 200
    assert server.ask("/health")[0] == server.ask("/v1/completions", body)[0] == 503
    assert server.ask("/members/tiny/is_sleeping", admin=True)[0] == 200
    assert server.ask("/members/tiny/wake_up", {}, admin=True)[0] == 200
    assert server.ask("/health")[0] == server.ask("/v1/completions", body)[0] == 200


def test_a_body_of_another_type_is_refused(server: Server) -> None:
    status, answer = server.ask("/v1/completions", {"prompt": "x"}, "text/plain")
    assert (status, answer["error"]["param"]) == (400, "content-type")
