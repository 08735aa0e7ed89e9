"""The routers that we measure beside us: each in a virtual environment of its own, started over given upstreams.

Knows how each is installed and told its upstreams; nothing of the load.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import launch
import report


class Peer(NamedTuple):
    """`command` gets the environment's bin folder, upstream URLs, a port and a scratch folder."""

    name: str
    requirement: str
    command: Callable[[Path, Sequence[str], int, Path], list[str]]
    ready: str = "/health"
    start_timeout_s: float = 60.0

    @property
    def folder(self) -> Path:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cache / "headgate" / "peers" / self.requirement.split("==")[0].split("[")[0]


def _vllm_router(bin: Path, urls: Sequence[str], port: int, scratch: Path) -> list[str]:
    return [*_vllm_router_default(bin, urls, port, scratch), "--policy", "round_robin"]


def _vllm_router_default(bin: Path, urls: Sequence[str], port: int, scratch: Path) -> list[str]:
    ports = ["--port", str(port), "--prometheus-port", str(launch.free_port())]
    quiet = ["--log-level", "error", "--log-dir", str(scratch)]
    return [str(bin / "vllm-router"), "--worker-urls", *urls, *ports, *quiet]


def _sglang_router(bin: Path, urls: Sequence[str], port: int, scratch: Path) -> list[str]:
    ports = ["--port", str(port), "--prometheus-port", str(launch.free_port())]
    quiet = ["--log-level", "error", "--log-dir", str(scratch)]
    module = [str(bin / "python"), "-m", "sglang_router.launch_router"]
    return [*module, "--worker-urls", *urls, "--policy", "round_robin", *ports, *quiet]


def _litellm(bin: Path, urls: Sequence[str], port: int, scratch: Path) -> list[str]:
    entries = [
        f"  - model_name: stub\n    litellm_params: {{model: openai/stub, api_base: '{url}/v1', api_key: none}}"
        for url in urls
    ]
    config = scratch / "litellm.yaml"
    # Without a key it would ask a database; open to all is its cheapest, and it listens on loopback only.
    settings = "general_settings: {dangerously_permit_weak_or_unset_master_key: true}\n"
    config.write_text("model_list:\n" + "\n".join(entries) + "\n" + settings, encoding="utf-8")
    return [str(bin / "litellm"), "--config", str(config), "--port", str(port), "--host", "127.0.0.1"]


#: As little work as each allows: plain round robin over the upstreams. vllm-router also as it comes, where it looks at
#: the prompt to choose an upstream (`cache_aware`).
PEERS = {
    peer.name: peer
    for peer in (
        Peer("vllm-router", "vllm-router==0.1.17", _vllm_router),
        Peer("vllm-router-default", "vllm-router==0.1.17", _vllm_router_default),
        Peer("sglang-router", "sglang-router==0.3.2", _sglang_router),
        Peer("litellm", "litellm[proxy]==1.106.2", _litellm, ready="/health/liveliness", start_timeout_s=180.0),
    )
}


def install(peer: Peer) -> Path:
    """The bin folder of the peer's environment, made on first use. Raises `CalledProcessError`."""
    done = peer.folder / ".installed"
    if not done.exists() or done.read_text(encoding="utf-8") != peer.requirement:
        report.progress(f"installing {peer.requirement} into {peer.folder}")
        shutil.rmtree(peer.folder, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(peer.folder)], check=True)
        pip = [str(peer.folder / "bin" / "python"), "-m", "pip", "install", "--quiet", peer.requirement]
        subprocess.run(pip, check=True, stdout=sys.stderr)
        done.write_text(peer.requirement, encoding="utf-8")
    return peer.folder / "bin"


@contextmanager
def run(peer: Peer, urls: Sequence[str]) -> Iterator[launch.Server]:
    """The peer, up and answering, in front of `urls`."""
    bin = install(peer)
    port = launch.free_port()
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as scratch:
        command = peer.command(bin, urls, port, Path(scratch))
        with launch.started(command, port, ready=peer.ready, timeout_s=peer.start_timeout_s, folder=scratch) as server:
            yield server
