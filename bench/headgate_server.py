"""`headgate serve`, over real engines or over stub hosts: the same config, the same frontend code.

Knows the config's shape; nothing of the load.
"""

import json
import os
import shlex
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import launch

_STUB = Path(__file__).resolve().parent / "stub_host.py"


def stub_members(tick_s: float = 0.01) -> list[dict[str, Any]]:
    """A small and a large model, each a stub host. Strengths are those of an 8 B and a 70 B model on MMLU-Pro."""
    return [
        {"name": "small", "model": "stub", "strength": 0.44, "engine_args": {"tick_s": tick_s}},
        {"name": "large", "model": "stub", "strength": 0.63, "engine_args": {"tick_s": tick_s}},
    ]


@contextmanager
def run(
    members: Sequence[Mapping[str, Any]],
    *,
    stub: bool = False,
    host: Path = _STUB,
    routing: Mapping[str, Any] | None = None,
    limits: Mapping[str, Any] | None = None,
    api_keys: Sequence[str] = (),
    branches: Mapping[str, Any] | None = None,
    program: Sequence[str] = ("-m", "router.cli.main"),
    env: Mapping[str, str] | None = None,
    timeout_s: float = 900,
) -> Iterator[launch.Server]:
    """The server, ready. With `stub` it starts `host` in the place of `router.host`; nothing else differs.

    `routing`, `limits` and `branches` are branches of the config. The bundled checkpoint scores every query. `program`
    is the `headgate` command, as Python is told it.
    """
    port, admin_port = launch.free_port(), launch.free_port()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        ports = {"port": port, "admin_port": admin_port}
        server = {**ports, "api_keys": list(api_keys), "limits": dict(limits or {})}
        supervision = {"runtime_dir": folder}
        config = {"server": server, "pool": list(members), "routing": dict(routing or {}), "supervision": supervision}
        config |= branches or {}
        path = Path(folder) / "headgate.yaml"  # JSON is YAML
        path.write_text(json.dumps(config), encoding="utf-8")
        command = [sys.executable, "-P", *program, "serve", str(path)]
        if stub:
            command += ["--host-command", shlex.join([sys.executable, "-P", str(host)])]
        with launch.started(
            command, port, ready="/ready", timeout_s=timeout_s, env={**os.environ, **(env or {})}, folder=folder
        ) as running:
            _wait_for_all(running, timeout_s)
            launch.prefer_tree(running.pid)
            yield running._replace(admin=f"127.0.0.1:{admin_port}", config=path)


def _wait_for_all(running: launch.Server, timeout_s: float) -> None:
    """`/ready` is 200 once one member can answer; a bench must not run while another engine still loads."""
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        with urllib.request.urlopen(f"{running.url}/ready", timeout=5) as answer:
            phases = json.load(answer)["members"]
        if set(phases.values()) == {"ready"}:
            return
        time.sleep(0.2)
    raise RuntimeError(f"not all members were ready within {timeout_s:g} s: {phases}")
