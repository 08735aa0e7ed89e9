"""Passes the engine core's outputs of fast-way requests on without building vLLM's output objects.

Replaces `OutputProcessor.process_outputs` and calls the original for every other request. It depends on internals that
are the same from 0.25 to 0.33; where they differ, `install` returns without a change and the fast way reads vLLM's
collectors instead.
"""

import time
from typing import Any, Protocol

from vllm.v1.engine import EngineCoreOutput, FinishReason
from vllm.v1.engine.output_processor import OutputProcessor, OutputProcessorOutput

from router.host.adapter.tally import Tally
from router.host.load import LoadMeter
from router.host.sse import NONE_CACHED, Cached

#: Seconds of the engine after which they are counted anew.
_COUNT_S = 0.5
_NEEDED_HERE = ("_finish_request", "process_outputs")
_NEEDED = ("request_states", "external_req_ids", "log_stats", "stream_interval", "tracing_enabled")


class Listener(Protocol):
    """One request of a single choice. `whole`: only the finished text is wanted."""

    whole: bool

    def begun(self) -> None:
        """The first token of a whole answer is there."""
        ...

    def heard(
        self, text: str, tokens: int, finish_reason: str | None, stop_reason: int | str | None, cached: Cached
    ) -> None:
        """`tokens` new tokens made `text`. `cached` is told with the last of them."""
        ...

    def broken(self, error: Exception) -> None:
        """Its output could not be made text: it ends here, and is stopped in the engine."""
        ...


class LeanOutputs:
    """One engine's outputs. Called once per step, or per slice of a large one."""

    def __init__(self, processor: Any, meter: LoadMeter, tally: Tally | None = None) -> None:
        self._processor = processor
        self._tally = tally
        self._original = processor.process_outputs
        self._states = processor.request_states
        self._meter = meter
        self._listeners: dict[str, Listener] = {}
        self._counted_s = 0.0  # when the tokens that sequences hold were last counted
        # From 0.33 on an output may say that a paused engine refused the request; the original knows how to tell.
        self._may_refuse = "error" in EngineCoreOutput.__struct_fields__

    def listen(self, request_id: str, listener: Listener) -> None:
        """From now on outputs of `request_id` go to `listener`, unless it ended already."""
        if request_id in self._states:
            self._listeners[request_id] = listener

    def forget(self, request_id: str) -> None:
        self._listeners.pop(request_id, None)

    def __call__(
        self,
        engine_core_outputs: list[Any],
        engine_core_timestamp: float | None = None,
        iteration_stats: Any = None,
        **more: Any,
    ) -> Any:
        listeners, others, aborts, tokens = self._listeners, [], [], 0
        stats = None if self._tally is None else self._tally.step()
        if stats is not None:
            stats.iteration_timestamp = time.time()
        if engine_core_timestamp is not None and engine_core_timestamp > self._counted_s + _COUNT_S:
            self._counted_s = engine_core_timestamp
            self._meter.holds(sum(_held(state) for state in self._states.values() if not state.is_prefilling))
        for output in engine_core_outputs:
            tokens += len(output.new_token_ids)
            if output.events is not None and engine_core_timestamp is not None:
                self._prefilled(output, engine_core_timestamp)
            if output.finish_reason is not None and (state := self._states.get(output.request_id)) is not None:
                self._meter.ended(_held(state) + len(output.new_token_ids))
            listener = listeners.get(output.request_id)
            if listener is None or (self._may_refuse and output.error is not None):
                others.append(output)
            else:
                try:
                    if self._tell(listener, output, stats, engine_core_timestamp):
                        aborts.append(output.request_id)
                except Exception as error:  # else vLLM's loop ends, and with it every other answer
                    aborts.append(output.request_id)
                    self._drop(output.request_id)
                    listener.broken(error)
        if engine_core_timestamp is not None:
            self._meter.stepped(engine_core_timestamp, len(engine_core_outputs), tokens)
        if not others:
            return OutputProcessorOutput(request_outputs=[], reqs_to_abort=aborts)
        result = self._original(others, engine_core_timestamp, iteration_stats or stats, **more)
        result.reqs_to_abort.extend(aborts)
        return result

    def _tell(self, listener: Listener, output: Any, stats: Any, now: float | None) -> bool:
        """Whether the engine must be told to stop: a stop string ended the answer. `stats`: to count it in, or None."""
        state = self._states.get(output.request_id)
        if state is None:  # aborted
            del self._listeners[output.request_id]
            return False
        if stats is not None:
            self._count(stats, state, output, now)
        if state.is_prefilling:
            state.is_prefilling = False
            if listener.whole:
                listener.begun()
            if output.prefill_stats is not None:
                state.num_cached_tokens = output.prefill_stats.num_cached_tokens
                state.num_cache_creation_tokens = getattr(output.prefill_stats, "num_cache_creation_tokens", 0)
        detokenizer, reason, stop_reason = state.detokenizer, output.finish_reason, output.stop_reason
        before = detokenizer.num_output_tokens()
        stop_string = detokenizer.update(output.new_token_ids, reason == FinishReason.STOP)
        if stop_string:
            reason, stop_reason = FinishReason.STOP, stop_string
        # Not what came in: tokens after the one that completes a stop string are dropped.
        tokens = detokenizer.num_output_tokens() - before
        if reason is None:
            if not listener.whole:
                listener.heard(detokenizer.get_next_output_text(False, True), tokens, None, None, NONE_CACHED)
            return False
        if listener.whole:
            tokens = detokenizer.num_output_tokens()
        del self._listeners[output.request_id]
        self._processor._finish_request(state)
        if stats is not None:
            self._processor._update_stats_from_finished(state, reason, stats)
        text = detokenizer.get_next_output_text(True, not listener.whole)
        cached = Cached(state.num_cached_tokens, getattr(state, "num_cache_creation_tokens", 0))
        listener.heard(text, tokens, str(reason), stop_reason, cached)
        return output.finish_reason is None

    def _count(self, stats: Any, state: Any, output: Any, now: float | None) -> None:
        """As vLLM's `IterationStats.update_from_output`, which takes longer where a token is all there is to count."""
        of_request = state.stats
        if state.is_prefilling or output.events is not None or now is None:
            self._processor._update_stats_from_output(state, output, now, stats)
            return
        count = len(output.new_token_ids)
        stats.num_generation_tokens += count
        of_request.num_generation_tokens += count
        stats.inter_token_latencies_iter.append(now - of_request.last_token_ts)
        of_request.last_token_ts = now

    def _drop(self, request_id: str) -> None:
        self.forget(request_id)
        state = self._states.get(request_id)
        if state is not None:
            self._processor._finish_request(state)

    def _prefilled(self, output: Any, now: float) -> None:
        """The first output of a request carries when it was scheduled."""
        state = self._states.get(output.request_id)
        stats = output.prefill_stats
        if state is None or stats is None:
            return
        scheduled = [event.timestamp for event in output.events if event.type.name == "SCHEDULED"]
        if scheduled:
            computed = state.prompt_len - stats.num_cached_tokens
            self._meter.prefilled(computed, now - scheduled[0])
            self._meter.began(state.prompt_len, computed, scheduled[0])


def _held(state: Any) -> int:
    """Tokens that a sequence held before this step."""
    written: int = 0 if state.detokenizer is None else state.detokenizer.num_output_tokens()
    return int(state.prompt_len) + written


def takes_outputs(engine: Any) -> bool:
    """Whether `install` can: this vLLM is as expected, and its settings (stream interval, tracing) ask for no more than
    we do."""
    processor = engine.output_processor
    complete = all(hasattr(OutputProcessor, name) for name in _NEEDED_HERE) and all(
        hasattr(processor, name) for name in _NEEDED
    )
    return bool(complete and processor.stream_interval == 1 and not processor.tracing_enabled)


def install(engine: Any, meter: LoadMeter, *, keep_statistics: bool, tally: Tally | None = None) -> LeanOutputs | None:
    """Make `engine` hand its outputs to us, counted in `tally`. None where `takes_outputs` says no.

    Call before the first request.
    """
    if not takes_outputs(engine):
        return None
    processor = engine.output_processor
    if not keep_statistics:
        _drop_statistics(engine, processor, counted=tally is not None)
    lean = LeanOutputs(processor, meter, tally)
    processor.process_outputs = lean
    return lean


def _drop_statistics(engine: Any, processor: Any, *, counted: bool) -> None:
    """vLLM's own per-request statistics cost 5 us a token; the scheduler's stay on. `counted`: its records of requests
    are made all the same, since a tally counts in them."""
    processor.log_stats = counted
    engine.log_stats = False
    # The output loop took its copy of the switch when it was created; it has not run yet.
    if engine.output_handler is not None:
        engine.output_handler.cancel()
        engine.output_handler = None
        engine._run_output_handler()


def drop_prometheus(engine: Any) -> None:
    """vLLM adds its Prometheus logger unasked; it costs 0.1 ms a step."""
    manager = engine.logger_manager
    loggers = getattr(manager, "stat_loggers", None)
    if loggers is not None:
        loggers[:] = [logger for logger in loggers if "Prometheus" not in type(logger).__name__]
