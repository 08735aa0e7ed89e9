"""vLLM's own engine and API application in this process: what `vllm serve` builds, less HTTP.

The modules moved between 0.25 and 0.33; this is the one place that follows them.
"""

import argparse
import importlib
import os
from collections.abc import Callable
from typing import Any

import vllm.envs


def start_engine(args: argparse.Namespace, stat_logger: Callable[[int], Any]) -> Any:
    """The `AsyncLLM` of `args`. Blocks until the engine is ready; raises what vLLM raises."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    _import_plugins(args)
    engine_args = AsyncEngineArgs.from_cli_args(args)
    config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    return AsyncLLM.from_vllm_config(
        vllm_config=config,
        usage_context=UsageContext.OPENAI_API_SERVER,
        # Our logger turns statistics on; this only spares vLLM's Prometheus metrics, which nobody would scrape.
        disable_log_stats=True,
        stat_loggers=[lambda config, index=0: stat_logger(index)],
        enable_log_requests=engine_args.enable_log_requests,
    )


async def build_app(engine: Any, args: argparse.Namespace) -> Any:
    """The ASGI application of `vllm serve` on `engine`; `app.state` holds the serving classes."""
    # Our own keys guard the doors; vLLM's would only refuse our own calls.
    os.environ.pop("VLLM_API_KEY", None)
    entrypoint = _entrypoint()
    tasks = await engine.get_supported_tasks()
    app = entrypoint.build_app(args, tasks, engine.model_config)
    await entrypoint.init_app_state(engine, app.state, args, tasks)
    app.state.server = _NoServer()
    if cache := getattr(vllm.envs, "enable_envs_cache", None):
        cache()  # vLLM looks its environment up per request; it is settled now
    return app


class _NoServer:
    """vLLM's error handlers tell the HTTP server to exit when the engine is dead; we watch the engine ourselves."""

    should_exit = False


class _Entrypoint:
    """`build_app` and `init_app_state`, wherever they live."""

    def __init__(self, app: str, state: str) -> None:
        self.build_app = importlib.import_module(app).build_app
        self.init_app_state = importlib.import_module(state).init_app_state


def _entrypoint() -> _Entrypoint:
    try:  # 0.29 and later
        return _Entrypoint("vllm.entrypoints.launchers.app", "vllm.entrypoints.launchers.api_server.app_state")
    except ImportError:
        return _Entrypoint("vllm.entrypoints.openai.api_server", "vllm.entrypoints.openai.api_server")


def _import_plugins(args: argparse.Namespace) -> None:
    if path := getattr(args, "tool_parser_plugin", None):
        from vllm.tool_parsers import ToolParserManager

        ToolParserManager.import_tool_parser(path)
    if path := getattr(args, "reasoning_parser_plugin", None):
        from vllm.reasoning import ReasoningParserManager

        ReasoningParserManager.import_reasoning_parser(path)
