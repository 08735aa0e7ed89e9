"""vLLM's own API server, the frontend that Headgate replaces, over one model.

Knows vLLM's command line; nothing of the load.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import launch

#: Engine settings that let several engines share a small machine. The same for vLLM's server and for ours.
CPU_ENGINE_ARGS: Mapping[str, Any] = {
    "kv_cache_memory_bytes": 64 * 1024 * 1024,
    "block_size": 32,
    "max_model_len": 512,
    "max_num_seqs": 64,
    "enforce_eager": True,
    "dtype": "float32",
}
CPU_ENV: Mapping[str, str] = {
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_CI_ENV": "1",
}


def flags(engine_args: Mapping[str, Any]) -> list[str]:
    """Engine arguments as vLLM's command line takes them."""
    out: list[str] = []
    for name, value in engine_args.items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            out.append(flag if value else flag.replace("--", "--no-", 1))
        else:
            out += [flag, str(value)]
    return out


@contextmanager
def run(
    model: str | Path, name: str, engine_args: Mapping[str, Any], env: Mapping[str, str], *, timeout_s: float = 900
) -> Iterator[launch.Server]:
    """The server, ready, answering under `name`. Its access log is off: it costs CPU that ours does not spend."""
    port = launch.free_port()
    command = [sys.executable, "-P", "-m", "vllm.entrypoints.openai.api_server", "--model", str(model)]
    command += ["--served-model-name", name, "--host", "127.0.0.1", "--port", str(port), "--disable-uvicorn-access-log"]
    with launch.started(
        [*command, *flags(engine_args)], port, ready="/health", timeout_s=timeout_s, env={**os.environ, **env}
    ) as server:
        yield server
