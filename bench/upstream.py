"""An nginx that answers every request with one fixed chat completion: the fastest upstream there is.

For the proxies that we run beside; Headgate itself is fed by `stub_host.py`.
"""

import json
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import launch

_CONFIG = """
daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 100000000; keepalive_timeout 600s; client_body_temp_path {folder};
  proxy_temp_path {folder}; fastcgi_temp_path {folder}; uwsgi_temp_path {folder}; scgi_temp_path {folder};
  default_type application/json;
{servers}
}}
"""
_SERVER = """  server {{ listen 127.0.0.1:{port} backlog=4096;
    location = /v1/models {{ return 200 '{models}'; }}
    location / {{ return 200 '{completion}'; }} }}"""


def completion(model: str) -> dict[str, object]:
    """A small chat completion, as vLLM writes it."""
    message = {"role": "assistant", "content": "ok"}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 120, "total_tokens": 121, "completion_tokens": 1}
    head = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion", "created": 1700000000, "model": model}
    return {**head, "choices": [choice], "usage": usage}


def missing_tools() -> str:
    """What must be installed before nginx and wrk can run; empty when both are here."""
    absent = [name for name in ("nginx", "wrk") if shutil.which(name, path=_PATH) is None]
    return f"{' and '.join(absent)} not found; on Debian: apt-get install nginx-light wrk" if absent else ""


_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@contextmanager
def nginx(model: str, *, servers: int = 1) -> Iterator[Sequence[str]]:
    """Base URLs of `servers` stub upstreams in one nginx, answering under the name `model`."""
    program = shutil.which("nginx", path=_PATH)
    if program is None:
        raise SystemExit(missing_tools())
    ports = [launch.free_port() for _ in range(servers)]
    models = json.dumps({"object": "list", "data": [{"id": model, "object": "model", "owned_by": "stub"}]})
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        blocks = [_SERVER.format(port=p, models=models, completion=json.dumps(completion(model))) for p in ports]
        config = Path(folder) / "nginx.conf"
        config.write_text(_CONFIG.format(folder=folder, servers="\n".join(blocks)), encoding="utf-8")
        command = [program, "-c", str(config), "-p", folder, "-e", f"{folder}/error.log"]
        with launch.started(command, ports[0], ready="/health", timeout_s=10):
            yield [f"http://127.0.0.1:{port}" for port in ports]
