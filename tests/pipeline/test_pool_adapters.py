"""Adapters that are loaded while the pool serves."""

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from router.errors import BadRequest, NoEngine
from router.ipc.spec import LOAD_ADAPTER, UNLOAD_ADAPTER, EngineCall
from router.pipeline.adapters import PoolAdapters
from router.pool.adapters import Adapters
from router.pool.engine import EngineMember

SQL = '{"lora_name": "sql", "lora_path": "/a"}'


def engine(name: str, **fields: Any) -> EngineMember:
    known = {"name": name, "model": "small", "phase": "ready", "takes_adapters": True, "adapters": Adapters(())}
    return cast(EngineMember, SimpleNamespace(**{**known, **fields}))


async def test_an_adapter_that_one_of_several_engines_refuses_is_in_none_of_them() -> None:
    engines, calls = [engine(f"small/{i}") for i in range(3)], []

    async def ask(member: EngineMember, call: EngineCall) -> bytes:
        calls.append((member.name, call.path))
        if member.name == "small/2":
            raise BadRequest("vLLM: no room")
        return b"loaded"

    adapters = PoolAdapters(lambda: (), dict)
    with pytest.raises(BadRequest, match="vLLM: no room"):
        await adapters.change(engines, EngineCall(path=LOAD_ADAPTER, body=SQL), ask)
    assert calls == [
        *((f"small/{i}", LOAD_ADAPTER) for i in range(3)),
        *((f"small/{i}", UNLOAD_ADAPTER) for i in (0, 1)),
    ]
    assert not any("sql" in each.adapters for each in engines)


async def test_an_engine_that_is_down_gets_the_adapter_as_it_starts_and_one_that_all_are_is_asked_and_refuses() -> None:
    up, down = engine("small/0"), engine("small/1", phase="restarting")

    async def ask(member: EngineMember, call: EngineCall) -> bytes:
        if member is down:
            raise NoEngine("model 'small' is not available now (restarting)")
        return b"loaded"

    adapters = PoolAdapters(lambda: (), dict)
    assert await adapters.change([up, down], EngineCall(path=LOAD_ADAPTER, body=SQL), ask) == b"loaded"
    assert [adapter.name for adapter in down.adapters.added] == ["sql"]
    with pytest.raises(NoEngine, match="not available now"):
        await adapters.change([down], EngineCall(path=LOAD_ADAPTER, body=SQL), ask)


async def test_two_without_a_name_that_are_loaded_at_once_are_both_the_engines_to_refuse() -> None:
    member = engine("small")
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
