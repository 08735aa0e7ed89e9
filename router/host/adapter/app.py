"""vLLM's own engine and API application in this process: what `vllm serve` builds, less HTTP."""

import argparse
import os
from collections.abc import AsyncIterator, Callable
from typing import Any

import vllm.envs

from router.host.adapter import vllm_modules
from router.host.adapter.adapters import load_configured


def start_engine(
    args: argparse.Namespace, stat_logger: Callable[[int], Any], prepare: Callable[[Any], None] = lambda config: None
) -> Any:
    """The `AsyncLLM` of `args`, whose config `prepare` may change. Blocks until the engine is ready; raises what vLLM
    raises."""
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    _import_plugins(args)
    engine_args = AsyncEngineArgs.from_cli_args(args)
    config = engine_args.create_engine_config(usage_context=UsageContext.OPENAI_API_SERVER)
    prepare(config)
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
    before = "vllm.entrypoints.openai.api_server"  # until 0.28
    # Its routes that act on the engine: they are asked by our owner only, on the admin port.
    os.environ["VLLM_SERVER_DEV_MODE"] = "1"
    if getattr(args, "enable_lora", False):
        os.environ["VLLM_ALLOW_RUNTIME_LORA_UPDATING"] = "1"
    tasks = await engine.get_supported_tasks()
    app = vllm_modules.find("vllm.entrypoints.launchers.app", before).build_app(args, tasks, engine.model_config)
    state = vllm_modules.find("vllm.entrypoints.launchers.api_server.app_state", before)
    modules, args.lora_modules = args.lora_modules, None  # loaded below, one by one: vLLM would not tell which is bad
    await state.init_app_state(engine, app.state, args, tasks)
    await load_configured(app.state, modules or ())
    app.state.server = _NoServer()
    _let_errors_through(app.state)
    if cache := getattr(vllm.envs, "enable_envs_cache", None):
        cache()  # vLLM looks its environment up per request; it is settled now
    return app


class _NoServer:
    """vLLM's error handlers tell the HTTP server to exit when the engine is dead; we watch the engine ourselves."""

    should_exit = False


def _let_errors_through(state: Any) -> None:
    """`messages` are chat whose events are rewritten. An error of the chat is no event, and vLLM tells of the failed
    rewriting in its place; ours passes it on as it is."""
    serving = getattr(state, "anthropic_serving_messages", None)
    convert = getattr(serving, "message_stream_converter", None)
    if serving is None or convert is None:
        return

    async def converted(events: AsyncIterator[str]) -> AsyncIterator[str]:
        errors: list[str] = []

        async def until_error() -> AsyncIterator[str]:
            async for event in events:
                if event.startswith('data: {"error"'):
                    errors.append(event)
                elif not errors:
                    yield event

        async for event in convert(until_error()):
            yield event
        for error in errors:
            yield error

    serving.message_stream_converter = converted


def _import_plugins(args: argparse.Namespace) -> None:
    if path := getattr(args, "tool_parser_plugin", None):
        from vllm.tool_parsers import ToolParserManager

        ToolParserManager.import_tool_parser(path)
    if path := getattr(args, "reasoning_parser_plugin", None):
        from vllm.reasoning import ReasoningParserManager

        ReasoningParserManager.import_reasoning_parser(path)
