"""LoRA adapters in the host: who answers, what a refused load is, and those of an earlier engine."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from router.errors import ConfigError
from router.host.adapter.adapters import adapters_of, finder, load_again, load_configured
from router.host.adapter.slow import SlowWay
from router.ipc.messages import Submit
from router.ipc.spec import LOAD_ADAPTER, UNLOAD_ADAPTER, EngineCall
from router.types import Adapter
from tests.conftest import PATIENCE_S
from tests.host.adapter.test_slow import Heard, answering

RANK = b'{"error": {"message": "LoRA rank 32 is greater than 8", "type": "InternalServerError", "code": 500}}'


def way(app):
    return SlowWay(app, "tiny", asyncio.get_running_loop())


async def ended(way, submit):
    heard = Heard()
    way.start(submit, heard)
    await asyncio.wait_for(heard.ended.wait(), PATIENCE_S)
    return heard


async def test_the_application_is_asked_for_the_adapter():
    seen = {}
    await ended(way(answering(200, b"{}", seen=seen)), Submit(id=1, kind="chat", body=b'{"model": "x"}', adapter="sql"))
    assert seen["body"] == {"model": "sql"}


@pytest.mark.parametrize(("path", "code"), [(LOAD_ADAPTER, "adapter_refused"), (UNLOAD_ADAPTER, None)])
async def test_a_load_that_vllm_calls_its_own_error_has_a_code_that_tells_it_from_an_engines_failure(path, code):
    call = json.dumps({"path": path, "body": "{}"}).encode()
    heard = await ended(way(answering(500, RANK)), Submit(id=1, kind="admin", body=call))
    error = json.loads(heard.failure.body)["error"]
    assert (heard.failure.status, heard.failure.code, error["code"]) == (500, code or "", code)
    assert error["message"] == "LoRA rank 32 is greater than 8"


async def test_a_load_into_a_dead_engine_is_not_the_operators_fault():
    dead = SlowWay(answering(500, RANK), "tiny", asyncio.get_running_loop(), dead=lambda: True)
    call = json.dumps({"path": LOAD_ADAPTER, "body": "{}"}).encode()
    assert (await ended(dead, Submit(id=1, kind="admin", body=call))).failure.status == 502


def state(**requests):
    return SimpleNamespace(openai_serving_models=SimpleNamespace(lora_requests=requests))


def test_those_of_the_application_are_told_with_their_paths():
    requests = {"a": SimpleNamespace(lora_path="/a"), "b": SimpleNamespace(lora_path="/b", is_3d_lora_weight=True)}
    assert adapters_of(state(**requests)) == (Adapter("a", "/a"), Adapter("b", "/b", fused=True))
    assert adapters_of(SimpleNamespace()) == ()


async def test_those_of_an_earlier_engine_are_loaded_and_one_that_is_refused_is_told_of(caplog):
    asked = []

    class Slow:
        async def operate(self, call: EngineCall):
            asked.append((call.path, json.loads(call.body)))
            return (200, b"Success") if "/bad" not in call.body else (400, b"too wide")

    there = state(old=SimpleNamespace(lora_path="/0"))
    caplog.set_level("WARNING", "headgate.host")
    await load_again(Slow(), there, (Adapter("old", "/1"), Adapter("bad", "/bad"), Adapter("new", "/2", fused=True)))
    assert asked == [
        (LOAD_ADAPTER, {"lora_name": "old", "lora_path": "/1", "load_inplace": True}),
        (LOAD_ADAPTER, {"lora_name": "bad", "lora_path": "/bad"}),
        (LOAD_ADAPTER, {"lora_name": "new", "lora_path": "/2", "is_3d_lora_weight": True}),
    ]
    assert "the adapter 'bad' was not loaded again: too wide" in caplog.text


WORKER = "Call to add_lora method failed: Worker failed with error 'no such module: q', please check the stack trace"


@pytest.mark.parametrize("why", ["no such module: q", WORKER])
async def test_one_of_the_arguments_that_vllm_refuses_is_named(why):
    class Models:
        static_lora_modules = None
        loaded = ()

        async def init_static_loras(self):
            (module,) = self.static_lora_modules
            if module.name == "bad":
                raise ValueError(why)
            self.loaded += (module.name,)

    models = Models()
    modules = [SimpleNamespace(name=name) for name in ("good", "bad")]
    with pytest.raises(ConfigError, match=r"engine_args\.lora_modules: adapter 'bad': no such module: q$"):
        await load_configured(SimpleNamespace(openai_serving_models=models), modules)
    assert models.loaded == ("good",)


def test_vllms_own_description_is_found_by_name():
    find = finder(state(a="its request"))
    assert (find("a"), find("b")) == ("its request", None)
