"""Adapters that are loaded while the pool serves."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

from router.errors import BadRequest
from router.ipc.spec import EngineCall
from router.pipeline.adapters import PoolAdapters
from router.pool.adapters import Adapters
from router.pool.engine import EngineMember
from router.types import LOAD_ADAPTER


async def test_two_without_a_name_that_are_loaded_at_once_are_both_the_engines_to_refuse() -> None:
    member = cast(
        EngineMember, SimpleNamespace(model="small", phase="ready", takes_adapters=True, adapters=Adapters(()))
    )
    both = asyncio.Barrier(2)

    async def refuse(member: EngineMember, call: EngineCall) -> bytes:
        await both.wait()
        raise BadRequest("vLLM: no name")

    adapters = PoolAdapters(lambda: (), dict)
    call = EngineCall(path=LOAD_ADAPTER, body='{"lora_name": "", "lora_path": "/a"}')
    ends: list[Any] = await asyncio.gather(
        *(adapters.change([member], call, refuse) for _ in range(2)), return_exceptions=True
    )
    assert [(type(end), str(end)) for end in ends] == [(BadRequest, "vLLM: no name")] * 2
