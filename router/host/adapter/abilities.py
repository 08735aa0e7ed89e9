"""What an engine can be asked for, read off the application that vLLM made for it. Names are those of
`types.Capability`."""

import argparse
from typing import Any

from router.errors import ConfigError
from router.types import GENERATING, MEMBER_ROUTES, MemberRoute

#: Capability, and where vLLM keeps the serving class that brings it.
_SERVED_BY = (
    ("completions", "openai_serving_completion"),
    ("logprobs", "openai_serving_completion"),
    ("structured", "openai_serving_completion"),
    ("chat", "openai_serving_chat"),
    ("tools", "openai_serving_chat"),
    ("responses", "openai_serving_responses"),
    ("messages", "anthropic_serving_messages"),
)


def abilities(engine: Any, app: Any, args: argparse.Namespace) -> tuple[str, ...]:
    """Raises `ConfigError` where there is nothing that it could be asked for."""
    found = {name for name, attribute in _SERVED_BY if getattr(app.state, attribute, None) is not None}
    generates = not GENERATING.isdisjoint(found)
    paths = _paths(app)
    found |= {kind for kind, route in MEMBER_ROUTES.items() if _answers(route, paths, args, generates)}
    if not found:
        raise ConfigError(f"{engine.model_config.model}: vLLM serves no API that Headgate knows for this model")
    if generates and engine.model_config.is_multimodal_model:
        modalities = _modalities(engine)
        found |= {name for name, modality in (("vision", "image"), ("audio", "audio")) if modality in modalities}
    return tuple(sorted(found))


def _answers(route: MemberRoute, paths: frozenset[str], args: argparse.Namespace, generates: bool) -> bool:
    """A route whose switch is off is there too, to say so. Where vLLM has no such switch it is always on."""
    on = not route.switch or getattr(args, route.switch, True)
    return bool(on) and route.paths[0] in paths and (generates or not route.generates)


def _paths(app: Any) -> frozenset[str]:
    return frozenset(path for route in app.routes if isinstance(path := getattr(route, "path", None), str))


def _modalities(engine: Any) -> set[str]:
    from vllm.multimodal import MULTIMODAL_REGISTRY

    info = MULTIMODAL_REGISTRY.create_processor(engine.model_config).info
    limits = getattr(info, "allowed_mm_limits", None) or info.get_supported_mm_limits()
    return {modality for modality, limit in limits.items() if limit != 0}
