"""A router over engines that run in steps, with a folder for batches."""

import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from router import config
from router.dialects.batches import read_batch
from router.pipeline.batch.batches import Batches
from router.pipeline.router import Router
from tests.cli.conftest import write_checkpoint
from tests.conftest import ROOT, until

CHAT = "/v1/chat/completions"
HOST = (sys.executable, "-P", str(ROOT / "bench" / "stepping_host.py"))


def line(number: int, prompt_tokens: int = 10, max_tokens: int = 10, **body: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": "x" * 4 * prompt_tokens}]
    asked = {"model": "small", "messages": messages, "prompt_tokens": prompt_tokens, "max_tokens": max_tokens, **body}
    return {"custom_id": f"line-{number}", "method": "POST", "url": CHAT, "body": asked}


class Kit:
    """One router, and what a client would do with its batches."""

    line = staticmethod(line)

    def __init__(self, router: Router) -> None:
        self.router = router

    @property
    def batches(self) -> Batches:
        assert self.router.batches is not None
        return self.router.batches

    async def begin(self, lines: list[dict[str, Any]], **fields: Any) -> str:
        """A batch's id."""
        await until(lambda: self.batches._ready)
        file = self.batches.new_file()
        file.write("".join(json.dumps(each) + "\n" for each in lines).encode())
        file.end()
        kept = await file.keep("in.jsonl", "", 3600.0)
        self.batches.drop(file)
        asked = {"input_file_id": kept.id, "endpoint": CHAT, "completion_window": "24h", **fields}
        return (await self.batches.create("", read_batch(json.dumps(asked).encode()))).id

    async def over(self, id: str) -> Any:
        await until(lambda: self.batches.batch("", id).status in ("completed", "failed", "expired", "cancelled"))
        return self.batches.batch("", id)

    def results(self, file_id: str | None) -> list[dict[str, Any]]:
        assert file_id is not None
        return [json.loads(each) for each in self.batches._folder.read(f"{file_id}.data", 1 << 24).splitlines()]

    async def steps(self, prompt_tokens: int = 10, max_tokens: int = 1) -> int:
        """For how many a live request waits."""
        body = line(0, prompt_tokens, max_tokens)["body"]
        messages = body.pop("messages")
        answer = await self.router.complete(messages, **body)
        return int(json.loads(answer.raw)["steps"])


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[Kit]]]:
    write_checkpoint(tmp_path / "small.safetensors")
    started: list[Router] = []

    async def start_router(**settings: Any) -> Kit:
        engine_args = settings.pop("engine_args", {})
        tree = {
            "pool": [{"name": "small", "model": "stub", "strength": 0.4, "engine_args": engine_args}],
            "routing": {"checkpoint": str(tmp_path / "small.safetensors")},
            "batches": {"path": str(tmp_path / "batches"), **settings},
        }
        router = Router(config.build(tree), host_command=HOST)
        started.append(router)
        await router.start()
        return Kit(router)

    yield start_router
    for router in started:
        await router.stop()
