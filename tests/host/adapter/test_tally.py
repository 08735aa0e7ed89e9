"""The tally against vLLM's own logger: the same steps, recorded one by one by vLLM and at once by the tally."""

import random
from pathlib import Path
from types import SimpleNamespace

import pytest

pytestmark = [
    pytest.mark.engine,
    pytest.mark.timeout(600),
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning"),  # of torch, as vLLM imports it
]

REQUESTS, MOST_RUNNING = 60, 12


@pytest.fixture(scope="module")
def config(root: Path):
    pytest.importorskip("vllm", reason="needs vLLM")
    from vllm.engine.arg_utils import AsyncEngineArgs

    args = AsyncEngineArgs(model=str(root / "examples" / "pair" / "small"), dtype="float32", max_model_len=512)
    return args.create_engine_config()


def figures():
    """All of vLLM's samples but the times at which they were made."""
    from prometheus_client import REGISTRY

    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in REGISTRY.collect()
        for sample in family.samples
        if family.name.startswith("vllm:") and not sample.name.endswith("_created")
    }


def steps(seed):
    """Of an engine: (now, scheduler's statistics, [(request, output, how it finished)])."""
    from vllm.v1.engine import EngineCoreEvent, EngineCoreEventType, EngineCoreOutput, FinishReason
    from vllm.v1.metrics.stats import PrefillStats, PrefixCacheStats, SchedulerStats

    chance, now, running, begun = random.Random(seed), 100.0, {}, 0
    while begun < REQUESTS or running:
        now += chance.uniform(0.001, 0.3)
        outputs = []
        if chance.random() < 0.02:  # a step of the scheduler alone
            yield now, SchedulerStats(num_waiting_reqs=1), outputs
            continue
        if begun < REQUESTS and len(running) < MOST_RUNNING:
            running[begun] = 0
            begun += 1
        for id in list(running):
            output = EngineCoreOutput(request_id=str(id), new_token_ids=[1] * chance.choice((1, 1, 1, 3)))
            if running[id] == 0:
                output.prefill_stats = PrefillStats()
                output.prefill_stats.set(chance.randrange(20, 300), chance.randrange(20), 0)
                moments = (EngineCoreEventType.QUEUED, now - 0.5), (EngineCoreEventType.SCHEDULED, now - 0.2)
                output.events = [EngineCoreEvent(type=type, timestamp=at) for type, at in moments]
            elif chance.random() < 0.02:
                output.events = [EngineCoreEvent(type=EngineCoreEventType.PREEMPTED, timestamp=now)]
            running[id] += 1
            reason = chance.choice((FinishReason.STOP, FinishReason.LENGTH)) if chance.random() < 0.05 else None
            if reason is not None:
                del running[id]
            outputs.append((id, output, reason))
        looked_up = PrefixCacheStats(requests=1, queries=chance.randrange(50), hits=chance.randrange(20))
        stats = SchedulerStats(num_running_reqs=len(running), num_waiting_reqs=2, kv_cache_usage=chance.random())
        stats.prefix_cache_stats = looked_up
        yield now, stats, outputs


class Counted:
    """What of vLLM's output processor the counting needs, and the requests."""

    def __init__(self):
        from vllm.v1.engine.output_processor import LoRARequestStates, OutputProcessor
        from vllm.v1.metrics.stats import RequestStateStats

        self.lora_states = LoRARequestStates(True)
        self._update_stats_from_output = OutputProcessor._update_stats_from_output.__get__(self)
        self._update_stats_from_finished = OutputProcessor._update_stats_from_finished.__get__(self)
        self._made = RequestStateStats
        self._states = {}

    def state(self, id):
        if id not in self._states:
            self._states[id] = SimpleNamespace(
                request_id=str(id), external_req_id=str(id), is_prefilling=True, stats=self._made(arrival_time=90.0),
                lora_name=None, parent_req=None, prompt_len=30 + id, max_tokens_param=64, num_cached_tokens=3,
            )  # fmt: skip
        return self._states[id]


def loggers(config):
    from vllm.v1.metrics.loggers import PrometheusStatLogger

    return [PrometheusStatLogger(config, [0])]


def recorded_by_vllm(config, seed):
    from vllm.v1.metrics.stats import IterationStats

    (logger,), processor = loggers(config), Counted()
    for now, scheduled, outputs in steps(seed):
        stats = IterationStats() if outputs else None
        for id, output, reason in outputs:
            stats.iteration_timestamp = now
            state = processor.state(id)
            processor._update_stats_from_output(state, output, now, stats)
            state.is_prefilling = False
            if reason is not None:
                processor._update_stats_from_finished(state, reason, stats)
        logger.record(scheduled, stats, None, 0)
    return figures()


def recorded_by_tally(config, seed, scrape_every):
    from router.host.adapter.outputs import LeanOutputs
    from router.host.adapter.tally import tally_of

    all_loggers, processor = loggers(config), Counted()
    tally = tally_of(SimpleNamespace(logger_manager=SimpleNamespace(stat_loggers=all_loggers)))
    assert all_loggers == [tally]
    lean = object.__new__(LeanOutputs)
    lean._processor = processor
    for i, (now, scheduled, outputs) in enumerate(steps(seed)):
        for j, (id, output, reason) in enumerate(outputs):
            stats = tally.step()
            stats.iteration_timestamp = now
            state = processor.state(id)
            lean._count(stats, state, output, now)
            state.is_prefilling = False
            if reason is not None:
                processor._update_stats_from_finished(state, reason, stats)
            if scrape_every and i % scrape_every == 0 and j == len(outputs) // 2:
                tally.flush()  # between the slices of one step
        tally.record(scheduled, None, None, 0)
    tally.flush()
    return figures()


@pytest.mark.parametrize("scrape_every", [0, 1, 7])
@pytest.mark.parametrize("seed", [1, 2])
def test_at_once_says_what_step_by_step_says_whenever_it_is_scraped(config, seed, scrape_every):
    own, ours = recorded_by_vllm(config, seed), recorded_by_tally(config, seed, scrape_every)
    assert own.keys() == ours.keys()
    assert {name: value for name, value in ours.items() if value != pytest.approx(own[name], rel=1e-9)} == {}
    succeeded = sum(value for (name, _), value in own.items() if name == "vllm:request_success_total")
    assert succeeded == REQUESTS


def test_long_runs_without_a_scrape_keep_bounded_lists(config, monkeypatch):
    from router.host.adapter import tally as module

    own = recorded_by_vllm(config, 3)
    monkeypatch.setattr(module, "_MOST_GAPS", 10)
    assert recorded_by_tally(config, 3, 0) == pytest.approx(own)


def test_what_is_discarded_is_in_no_figure(config):
    from router.host.adapter import tally as module

    tally = module.Tally(loggers(config)[0])
    before = figures()
    for now, scheduled, outputs in steps(4):
        stats = tally.step()
        stats.num_generation_tokens += len(outputs)
        stats.inter_token_latencies_iter.append(now)
        tally.record(scheduled, None, None, 0)
    tally.discard()
    tally.flush()
    after = figures()
    changed = {name for (name, labels), value in after.items() if value != before[name, labels]}
    assert changed <= {"vllm:num_requests_waiting", "vllm:num_requests_waiting_by_reason", "vllm:kv_cache_usage_perc"}


def test_a_logger_of_another_shape_is_left_as_it_is(config):
    from router.host.adapter.tally import tally_of

    class PrometheusOfLater:
        engine_indexes = (0,)

    kept = [PrometheusOfLater()]
    engine = SimpleNamespace(logger_manager=SimpleNamespace(stat_loggers=kept))
    assert tally_of(engine) is None
    assert isinstance(kept[0], PrometheusOfLater)
    assert tally_of(SimpleNamespace(logger_manager=None)) is None
