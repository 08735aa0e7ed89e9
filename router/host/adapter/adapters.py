"""The LoRA adapters of vLLM's engine: which there are, and those of an earlier engine loaded again."""

import logging
import re
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from router.errors import ConfigError
from router.host.adapter.slow import SlowWay
from router.host.base import MOST_MESSAGE
from router.ipc.spec import LOAD_ADAPTER, EngineCall
from router.types import Adapter

_IN_WORKER = re.compile(r"Worker failed with error '(.+)', please check", re.DOTALL)
logger = logging.getLogger("headgate.host")


def adapters_of(state: Any) -> tuple[Adapter, ...]:
    """Those that can be asked for now, by the `state` of vLLM's application."""
    requests = _requests(state)
    return tuple(
        Adapter(name, request.lora_path, bool(getattr(request, "is_3d_lora_weight", False)))
        for name, request in list(requests.items())
    )


def finder(state: Any) -> Callable[[str], Any]:
    """A function that gives vLLM's own description of an adapter, which its engine wants; None where there is none."""
    return lambda name: _requests(state).get(name)


async def load_configured(state: Any, modules: Sequence[Any]) -> None:
    """Those of the engine's arguments, `modules` as vLLM's parser has made them. Raises `ConfigError` with the name of
    one that vLLM refuses."""
    models = state.openai_serving_models
    for module in modules:
        models.static_lora_modules = [module]
        try:
            await models.init_static_loras()
        except ValueError as error:
            raise ConfigError(f"engine_args.lora_modules: adapter {module.name!r}: {_reason(error)}") from error


async def load_again(slow: SlowWay, state: Any, adapters: Sequence[Adapter]) -> None:
    """One that vLLM refuses now is told of and left out: the engine serves without it."""
    there = {adapter.name for adapter in adapters_of(state)}
    for adapter in adapters:
        body = _body(adapter, in_place=adapter.name in there)
        status, answer = await slow.operate(EngineCall(path=LOAD_ADAPTER, body=body))
        if status != 200:
            why = answer[:MOST_MESSAGE].decode(errors="replace")
            logger.warning("the adapter %r was not loaded again: %s", adapter.name, why)


def _requests(state: Any) -> dict[str, Any]:
    return getattr(getattr(state, "openai_serving_models", None), "lora_requests", None) or {}


def _reason(error: ValueError) -> str:
    """What was wrong in the worker, without where that was found out."""
    found = _IN_WORKER.search(str(error))
    return found[1] if found else str(error)


def _body(adapter: Adapter, *, in_place: bool) -> str:
    """What vLLM's route wants, as JSON."""
    body: dict[str, object] = {"lora_name": adapter.name, "lora_path": adapter.path}
    if adapter.fused:
        body["is_3d_lora_weight"] = True
    if in_place:
        body["load_inplace"] = True
    return msgspec.json.encode(body).decode()
