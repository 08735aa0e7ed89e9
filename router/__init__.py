"""Headgate: an LLM router that is the frontend of local vLLM engines.

    from router import Router

The rooms are imported only when asked for, so that a part can be used without the others.
"""

from typing import TYPE_CHECKING, Any

from router.version import __version__

if TYPE_CHECKING:
    from router.pipeline.decider import Decider as Decider
    from router.pipeline.library import ChatChunk as ChatChunk
    from router.pipeline.library import ChatStream as ChatStream
    from router.pipeline.library import Completion as Completion
    from router.pipeline.router import Router as Router

_HOMES = {
    "ChatChunk": "router.pipeline.library",
    "ChatStream": "router.pipeline.library",
    "Completion": "router.pipeline.library",
    "Decider": "router.pipeline.decider",
    "Router": "router.pipeline.router",
}

__all__ = ["ChatChunk", "ChatStream", "Completion", "Decider", "Router", "__version__"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'router' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
