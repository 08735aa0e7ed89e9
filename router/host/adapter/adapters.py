"""The LoRA adapters of vLLM's engine: which there are, and those of an earlier engine loaded again."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from router.host.adapter.slow import SlowWay
from router.host.base import MOST_MESSAGE
from router.ipc.spec import EngineCall
from router.types import LOAD_ADAPTER, Adapter

logger = logging.getLogger("headgate.host")


def adapters_of(state: Any) -> tuple[Adapter, ...]:
    """Those that can be asked for now, by the `state` of vLLM's application."""
    requests = getattr(getattr(state, "openai_serving_models", None), "lora_requests", None) or {}
    return tuple(
        Adapter(name, request.lora_path, bool(getattr(request, "is_3d_lora_weight", False)))
        for name, request in list(requests.items())
    )


async def load_again(slow: SlowWay, state: Any, adapters: Sequence[Adapter]) -> None:
    """One that vLLM refuses now is told of and left out: the engine serves without it."""
    there = {adapter.name for adapter in adapters_of(state)}
    for adapter in adapters:
        body = _body(adapter, in_place=adapter.name in there)
        status, answer = await slow.operate(EngineCall(path=LOAD_ADAPTER, body=body))
        if status != 200:
            why = answer[:MOST_MESSAGE].decode(errors="replace")
            logger.warning("the adapter %r was not loaded again: %s", adapter.name, why)


def _body(adapter: Adapter, *, in_place: bool) -> str:
    """What vLLM's route wants, as JSON."""
    body: dict[str, object] = {"lora_name": adapter.name, "lora_path": adapter.path}
    if adapter.fused:
        body["is_3d_lora_weight"] = True
    if in_place:
        body["load_inplace"] = True
    return msgspec.json.encode(body).decode()
