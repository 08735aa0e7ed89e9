"""Runs vLLM behind the host's `Engine` protocol: starts it, reports facts and load, chooses the fast or the slow way
for each request."""

import argparse
import asyncio
import logging
from collections.abc import Callable
from typing import Any

import msgspec
import vllm

from router.config import by_argument_name
from router.host.adapter import arguments
from router.host.adapter.abilities import abilities
from router.host.adapter.adapters import adapters_of, finder, load_again
from router.host.adapter.app import build_app, start_engine
from router.host.adapter.fast import FastWay
from router.host.adapter.metrics_page import metrics_page
from router.host.adapter.outputs import LeanOutputs, drop_prometheus, install, takes_outputs
from router.host.adapter.priming import can_prime
from router.host.adapter.render_check import bounds_of, chat_renderer, completion_renderer, limits_of
from router.host.adapter.shapes import shapes_of
from router.host.adapter.slow import SlowWay
from router.host.adapter.stats import LoadLogger
from router.host.adapter.tally import Tally, tally_of
from router.host.base import DIED, AnswerSink, Facts
from router.host.limits import Bounds
from router.host.load import LoadMeter
from router.host.turn import wait_for_turn
from router.host.watch.install import install as install_watch
from router.host.watch.install import open_watches
from router.host.watch.table import WatchTable
from router.ipc.messages import Load, Submit
from router.ipc.spec import ArgumentRefusal, HostSpec
from router.types import GENERATING

logger = logging.getLogger("headgate.host")

#: How often a silent engine is looked at; its death with requests in flight is told at once.
_LOOK_S = 0.5


class VllmEngine:
    """One `AsyncLLM` and the application around it."""

    def __init__(self, engine: Any, app: Any, spec: HostSpec, meter: LoadMeter, abilities: tuple[str, ...]) -> None:
        self._engine = engine
        self._app = app
        self._meter = meter
        self._loop = asyncio.get_running_loop()
        self._changed: Callable[[], None] = lambda: None
        self._label = spec.label or spec.name
        self._metrics = spec.metrics
        self._tally: Tally | None = None
        priorities = engine.vllm_config.scheduler_config.policy == "priority"
        self._slow = SlowWay(app, spec.name, self._loop, priorities=priorities, dead=lambda: bool(engine.errored))
        self._fast: FastWay | None = None
        self._watch: WatchTable | None = None
        self._verbs: tuple[str, ...] = ()
        self._facts = _facts(engine, abilities)

    @classmethod
    async def open(cls, spec: HostSpec) -> "VllmEngine":
        """Blocks the loop until the engine is ready. Raises `ConfigError` on a bad argument, else what vLLM raises."""
        args = _read_arguments(spec)
        meter = LoadMeter()
        changed: list[Callable[[], None]] = []
        tables: list[WatchTable | None] = [None]

        def prepare(config: Any) -> None:
            if spec.watch and spec.fast_path:
                tables[0] = install_watch(config, f"{spec.socket}.watch")

        engine = start_engine(args, lambda index: LoadLogger(meter, lambda: changed[0](), index), prepare)
        outputs, tally = _lighten(engine, args, meter, spec)
        try:
            app = await build_app(engine, args)
            self = cls(engine, app, spec, meter, abilities(engine, app, args))
            self._tally, self._watch = tally, tables[0]
            changed.append(lambda: self._changed())
            await load_again(self._slow, app.state, spec.adapters)
            if not GENERATING.isdisjoint(self._facts.capabilities):
                await self._open_generation(spec, outputs)
            if tally is not None:
                tally.discard()
        except BaseException:
            engine.shutdown()
            raise
        return self

    async def _open_generation(self, spec: HostSpec, outputs: LeanOutputs | None) -> None:
        """All that a model needs which generates text, and no other."""
        bounds = self._slow.bounds = await bounds_of(self._engine, self._slow)
        if spec.fast_path:
            await self._open_fast(spec, outputs, bounds)
        if spec.warm_up:
            await self._warm_up()

    async def _open_fast(self, spec: HostSpec, outputs: LeanOutputs | None, bounds: Bounds) -> None:
        engine, state = self._engine, self._app.state
        completion = getattr(state, "openai_serving_completion", None)
        plain = await completion_renderer(engine, self._slow, bounds)
        if completion is None or plain is None:
            return
        chat = await chat_renderer(engine, state, self._slow, bounds)
        details = completion.enable_prompt_tokens_details
        self._fast = FastWay(
            engine,
            chat or plain,
            self._slow.start,
            self._loop,
            name=spec.name,
            limits=limits_of(engine, completion),
            defaults=completion.default_sampling_params,
            chat=chat is not None,
            outputs=outputs,
            priorities=engine.vllm_config.scheduler_config.policy == "priority",
            traced=engine.vllm_config.observability_config.otlp_traces_endpoint is not None,
            fingerprint=getattr(completion, "system_fingerprint", None),
            cached_details=details,
            force_usage=completion.enable_force_include_usage,
            adapter=finder(state),
            shapes=shapes_of(getattr(state, "openai_serving_chat", None), details),
        )
        if can_prime(engine.renderer.tokenizer):
            self._verbs += ("continue",)
        if engine.vllm_config.cache_config.enable_prefix_caching:
            self._verbs += ("warm",)
        if self._watch is not None:
            stops = list(completion.default_sampling_params.get("stop_token_ids") or [])
            self._fast.watches = open_watches(self._watch, engine, _template_of(engine, state), stops)
            self._verbs += () if self._fast.watches is None else ("watch",)

    async def _warm_up(self) -> None:
        """The first request with logprobs compiles for 3 to 20 s, in which every other request stands still."""
        logger.info("warming up")  # read by `router/pool/stages.py`
        started = self._loop.time()
        await self._slow.ask("completions", {"prompt": [0], "max_tokens": 2})
        await self._slow.ask("completions", {"prompt": [0], "max_tokens": 2, "logprobs": 1})
        logger.info("warmed up in %.1f s", self._loop.time() - started)

    @property
    def ways(self) -> str:
        """Which requests go the fast way, for the log."""
        if self._fast is None:
            return "all requests through vLLM's serving classes"
        return "plain chat and completions" if self._fast.chat else "plain completions"

    # Engine

    @property
    def facts(self) -> Facts:
        return msgspec.structs.replace(self._facts, adapters=adapters_of(self._app.state), verbs=self._verbs)

    def start(self, submit: Submit, answer: AnswerSink) -> Callable[[], None]:
        stop = self._fast.start(submit, answer) if self._fast is not None else None
        if stop is None and submit.watch and self._fast is not None and self._fast.watches is not None:
            self._fast.watches.left_out("it takes the slow way")
        return stop if stop is not None else self._slow.start(submit, answer)

    def load(self) -> Load:
        return self._meter.load(self._engine.output_processor.get_num_unfinished_requests())

    async def control(self, op: str, argument: str) -> str:
        try:
            if op == "sleep":
                await self._engine.sleep(int(argument or 1))
            else:
                await self._engine.wake_up([argument] if argument else None)
        except Exception as error:  # the asker is told; the engine may serve on
            return f"{type(error).__name__}: {error}"
        finally:
            self._changed()
        return ""

    async def metrics(self) -> str:
        if not self._metrics:
            return ""
        if self._tally is not None:
            self._tally.flush(idle=not self._engine.output_processor.get_num_unfinished_requests())
        return await metrics_page(self._label)

    async def watch(self, load_changed: Callable[[], None]) -> str:
        self._changed = load_changed
        while not self._engine.errored:
            await asyncio.sleep(_LOOK_S)
            # An abort makes no step, and no step no statistics: look at what the host itself knows.
            load_changed()
        return DIED

    def close(self) -> None:
        self._engine.shutdown()
        if self._watch is not None:
            self._watch.remove()


def _read_arguments(spec: HostSpec) -> argparse.Namespace:
    """Then wait until it is this host's turn to load. Raises `ArgumentRefused`."""
    try:
        args = arguments.parse(spec)
    except arguments.ArgumentRefused as error:
        wait_for_turn(spec, ArgumentRefusal(key=error.key, why=error.why))
        raise
    wait_for_turn(spec)
    return args


def _lighten(
    engine: Any, args: argparse.Namespace, meter: LoadMeter, spec: HostSpec
) -> tuple[LeanOutputs | None, Tally | None]:
    """Take from the engine what costs time at each token. Its metrics are counted by a tally; where this vLLM has no
    place for one they stay as they are. `disable_log_stats: false` keeps vLLM's own statistics beside them."""
    wanted = by_argument_name(spec.engine_args)
    keep = wanted.get("disable_log_stats") is False or bool(getattr(args, "enable_per_request_metrics", False))
    tally = None
    if spec.metrics and takes_outputs(engine):
        tally = tally_of(engine)
        if tally is None:
            logger.warning("metrics: this vLLM's are counted by itself, which costs some 5 us a token")
            keep = True
    elif not spec.metrics and not keep:
        drop_prometheus(engine)
    return install(engine, meter, keep_statistics=keep, tally=tally), tally


def _template_of(engine: Any, state: Any) -> str:
    """Text of the chat template, empty for none."""
    serving = getattr(state, "openai_serving_chat", None)
    try:
        return str(engine.renderer.tokenizer.get_chat_template(getattr(serving, "chat_template", None)))
    except (AttributeError, ValueError):
        return ""


def _facts(engine: Any, abilities: tuple[str, ...]) -> Facts:
    config = engine.vllm_config
    cache = config.cache_config
    kv_tokens = getattr(cache, "kv_cache_size_tokens", None) or (cache.num_gpu_blocks or 0) * (cache.block_size or 0)
    return Facts(
        capabilities=abilities,
        context_tokens=engine.model_config.max_model_len,
        kv_tokens=kv_tokens,
        max_running=config.scheduler_config.max_num_seqs * config.parallel_config.data_parallel_size,
        version=f"vllm {vllm.__version__}",
    )
