"""`headgate serve MODEL --flag ...` as a process, with a real engine of the tiny pair, and what is asked of it."""

import json
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.conftest import PATIENCE_S, wait_until

FLAGS = (
    "--dtype float32 --kv-cache-memory-bytes 64M --block-size 32 --enforce-eager --max-model-len 512"
    " --distributed-executor-backend uni --served-model-name tiny other --host 127.0.0.1 --port 0 --admin-port 0 --json"
)


class Server:
    """One `headgate serve` of one model."""

    def __init__(self, model: Path, env: dict[str, str], *flags: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hg-")
        self._log = (Path(self._folder.name) / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "router.cli.main", "serve", str(model), *FLAGS.split(), *flags],
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
        pytest.fail(self.said()[-3000:])

    def said(self) -> str:
        """Standard error so far."""
        self._log.seek(0)
        return self._log.read()

    def ask(
        self, path: str, body: Any = None, type: str = "application/json", *, admin: bool = False
    ) -> tuple[int, Any]:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request((self.admin if admin else self.url) + path, data, {"content-type": type})
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                answer = response.read()
                json_wanted = response.headers["content-type"].startswith("application/json")
                return response.status, json.loads(answer) if json_wanted else answer.decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def client(self) -> openai.OpenAI:
        """One that asks once. To be closed."""
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)

    def close(self) -> None:
        self.process.terminate()
        wait_until(lambda: self.process.poll() is not None, lambda: "it does not end")
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()
        self._folder.cleanup()
