"""The adapter against the installed vLLM's own classes, without an engine: arguments, and outputs on the short way
compared with vLLM's."""

import random

import pytest

from router.errors import ConfigError
from router.host.load import LoadMeter
from router.host.sse import Cached
from router.ipc.spec import HostSpec
from tests.e2e.core_requests import core_request

pytestmark = [pytest.mark.engine, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def tokenizer(pair):
    transformers = pytest.importorskip("transformers")
    return transformers.AutoTokenizer.from_pretrained(str(pair / "small"))


def parse(**engine_args):
    from router.host.adapter import arguments

    return arguments.parse(HostSpec(name="tiny", model="some/model", socket="", engine_args=engine_args))


# Arguments


def test_arguments_are_those_of_vllm_serve(pair):
    args = parse(
        **{
            "max-model-len": 512,
            "enforce_eager": True,
            "enable_prefix_caching": False,
            "gpu_memory_utilization": 0.3,
            "default_chat_template_kwargs": {"enable_thinking": False},
            "tool_call_parser": "hermes",
            "enable_auto_tool_choice": True,
            "seed": None,
            "override_generation_config": {"temperature": 0.5},
            "logits_processors": ["a:B"],
        }
    )
    assert (args.model, args.served_model_name) == ("some/model", ["tiny"])
    assert (args.max_model_len, args.enforce_eager, args.enable_prefix_caching) == (512, True, False)
    assert args.gpu_memory_utilization == 0.3
    assert args.default_chat_template_kwargs == {"enable_thinking": False}
    assert (args.tool_call_parser, args.enable_auto_tool_choice) == ("hermes", True)
    assert args.override_generation_config == {"temperature": 0.5}


def test_a_switch_may_be_turned_off(pair):
    assert parse(enforce_eager=False).enforce_eager is False
    assert parse(enable_prefix_caching=False).enable_prefix_caching is False
    assert parse(enable_prefix_caching=True).enable_prefix_caching is True
    assert parse(disable_log_stats=True).disable_log_stats is True


@pytest.mark.parametrize(
    ("engine_args", "message"),
    [
        ({"max_modell_len": 1}, r"max_modell_len: vLLM has no such argument; did you mean 'max_model_len'\?"),
        ({"zzzzzz": 1}, r"zzzzzz: vLLM has no such argument$"),
        ({"port": 8000}, r"port: is set by `server.port`, not here"),
        ({"served-model-name": "x"}, r"served-model-name: is set by the member's `name`"),
        ({"max_model_len": "many"}, r"engine_args: max_model_len: argument --max-model-len"),
        ({"dtype": "float7"}, r"engine_args: dtype: argument --dtype: invalid choice"),
        ({"enable_auto_tool_choice": True}, r"requires --tool-call-parser"),
    ],
    ids=str,
)
def test_bad_arguments_are_refused_with_the_name(pair, engine_args, message):
    with pytest.raises(ConfigError, match=message):
        parse(**engine_args)


# Outputs


class Listener:
    def __init__(self, whole):
        self.whole, self.text, self.tokens, self.end = whole, "", 0, None
        self.errors, self.begun_calls = [], 0

    def begun(self):
        assert self.end is None
        self.begun_calls += 1

    def broken(self, error):
        self.errors.append(error)

    def heard(self, text, tokens, finish_reason, stop_reason, cached):
        assert self.end is None
        self.text, self.tokens = self.text + text, self.tokens + tokens
        if finish_reason is not None:
            self.end = finish_reason, stop_reason, cached


class Collector:
    """What vLLM's collector would have been given."""

    def __init__(self, request_id):
        self.request_id, self.text, self.tokens, self.end = request_id, "", 0, None

    def put(self, output):
        (completion,) = output.outputs
        self.text, self.tokens = self.text + completion.text, self.tokens + len(completion.token_ids)
        if output.finished:
            cached = Cached(output.num_cached_tokens, getattr(output, "num_cache_creation_tokens", 0))
            self.end = completion.finish_reason, completion.stop_reason, cached


class Noted:
    """An answer, remembered."""

    def __init__(self):
        self.chunks, self.failure = [], None

    def begun(self): ...

    def untimed(self): ...

    def chunk(self, data):
        self.chunks.append(data)

    def fail(self, failure):
        self.failure = failure


def add(processor, id, sampling, collector):
    processor.add_request(core_request(id, f"x{id}", [20, 21, 22], sampling), None, None, 0, collector)


def steps(rng, length):
    """The engine's outputs of one request: some steps give several tokens, the last says why it ended."""
    from vllm.v1.engine import EngineCoreOutput, FinishReason

    reason = rng.choice([FinishReason.STOP, FinishReason.LENGTH, FinishReason.ABORT])
    for step in range(length):
        ids = [rng.randrange(6, 500) for _ in range(rng.choice([1, 1, 1, 2, 4]))]
        last = step == length - 1
        yield EngineCoreOutput(
            request_id="r",
            new_token_ids=ids,
            finish_reason=reason if last else None,
            stop_reason=ids[-1] if last and reason == FinishReason.STOP else None,
        )


@pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])
@pytest.mark.parametrize("seed", range(60))
def test_the_short_way_says_what_vllm_says(pair, tokenizer, seed, whole):
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.v1.engine.output_processor import OutputProcessor

    from router.host.adapter.outputs import LeanOutputs

    rng = random.Random(seed)
    sampling = SamplingParams(
        max_tokens=1000,
        stop=rng.choice([[], [], ["1"], ["a", "bc"], ["é"], ["\n", "the "]]),
        include_stop_str_in_output=rng.random() < 0.5,
        min_tokens=rng.choice([0, 0, 5]),
        skip_special_tokens=rng.random() < 0.5,
        output_kind=RequestOutputKind.FINAL_ONLY if whole else RequestOutputKind.DELTA,
    )
    theirs = OutputProcessor(tokenizer, log_stats=False)
    ours = OutputProcessor(tokenizer, log_stats=False)
    collector, listener = Collector("r"), Listener(whole)
    add(theirs, "r", sampling.clone(), collector)
    add(ours, "r", sampling.clone(), Collector("r"))
    lean = LeanOutputs(ours, LoadMeter())
    lean.listen("r", listener)
    for a, b in zip(list(steps(random.Random(seed), 12)), list(steps(random.Random(seed), 12)), strict=True):
        wanted, got = theirs.process_outputs([a], 1.0, None), lean([b], 1.0, None)
        assert got.reqs_to_abort == wanted.reqs_to_abort
        assert ours.request_states.keys() == theirs.request_states.keys()
        if collector.end is not None:
            break
    assert (listener.text, listener.tokens, listener.end) == (collector.text, collector.tokens, collector.end)
    assert listener.end is not None
    assert listener.begun_calls == (1 if whole else 0)
    assert dict(ours.external_req_ids) == dict(theirs.external_req_ids) == {}


def test_what_nobody_listens_to_goes_vllms_way(pair, tokenizer):
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.v1.engine import EngineCoreOutput
    from vllm.v1.engine.output_processor import OutputProcessor

    from router.host.adapter.outputs import LeanOutputs

    processor = OutputProcessor(tokenizer, log_stats=False)
    collector, listener = Collector("other"), Listener(False)
    sampling = SamplingParams(max_tokens=9, output_kind=RequestOutputKind.DELTA)
    add(processor, "other", sampling.clone(), collector)
    add(processor, "mine", sampling.clone(), Collector("mine"))
    lean = LeanOutputs(processor, LoadMeter())
    lean.listen("mine", listener)
    lean.listen("never heard of", Listener(False))
    outputs = [EngineCoreOutput(request_id=id, new_token_ids=[22]) for id in ("other", "mine", "gone")]
    lean(outputs, 1.0, None)
    assert (collector.text, listener.text) == ("1", "1")
    processor.abort_requests(["mine"], internal=True)
    lean(outputs, 2.0, None)
    assert (collector.tokens, listener.tokens) == (2, 1)


def test_steps_are_summed_with_what_vllm_says_of_prompts_and_ends(pair, tokenizer):
    from vllm import SamplingParams
    from vllm.sampling_params import RequestOutputKind
    from vllm.v1.engine import EngineCoreEvent, EngineCoreEventType, EngineCoreOutput, FinishReason
    from vllm.v1.engine.output_processor import OutputProcessor
    from vllm.v1.metrics.stats import PrefillStats

    from router.host.adapter.outputs import LeanOutputs

    processor, meter = OutputProcessor(tokenizer, log_stats=False), LoadMeter()
    add(processor, "mine", SamplingParams(max_tokens=9, output_kind=RequestOutputKind.DELTA), Collector("mine"))
    lean = LeanOutputs(processor, meter)
    lean.listen("mine", Listener(False))
    prompt = processor.request_states["mine"].prompt_len
    read = PrefillStats(num_prompt_tokens=prompt, num_computed_tokens=prompt)
    scheduled = [EngineCoreEvent.new_event(EngineCoreEventType.SCHEDULED, 9.9)]
    lean([EngineCoreOutput(request_id="mine", new_token_ids=[22], events=scheduled, prefill_stats=read)], 10.0, None)
    meter.scheduled(0, 1, 0, 0.1)
    lean([EngineCoreOutput(request_id="mine", new_token_ids=[22])], 10.02, None)
    meter.scheduled(0, 1, 0, 0.1)
    assert meter.load(1).context_tokens == prompt + 2
    lean([EngineCoreOutput(request_id="mine", new_token_ids=[22], finish_reason=FinishReason.STOP)], 10.04, None)
    meter.scheduled(0, 0, 0, 0.0)
    load = meter.load(1)
    assert (load.sums.rows, load.sums.running, load.sums.prefill, load.context_tokens) == (3, 3, prompt, 0)
    assert load.sums.context == prompt + (prompt + 1) + (prompt + 2)
    assert load.sums.seconds == pytest.approx(0.14)


def test_the_short_way_declines_what_it_does_not_cover(pair, tokenizer):
    from types import SimpleNamespace

    from vllm.v1.engine.output_processor import OutputProcessor

    from router.host.adapter.outputs import install

    processor = OutputProcessor(tokenizer, log_stats=False, stream_interval=4)
    engine = SimpleNamespace(output_processor=processor, output_handler=None, log_stats=True)
    assert install(engine, LoadMeter(), keep_statistics=True) is None
    engine.output_processor = OutputProcessor(tokenizer, log_stats=True)
    lean = install(engine, LoadMeter(), keep_statistics=False)
    assert engine.output_processor.process_outputs is lean
    assert engine.log_stats is engine.output_processor.log_stats is False


def test_output_that_cannot_be_made_text_ends_its_own_answer_only(pair, tokenizer):
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.v1.engine import EngineCoreOutput
    from vllm.v1.engine.output_processor import OutputProcessor

    from router.host.adapter.outputs import LeanOutputs

    class Broken:
        def num_output_tokens(self):
            raise OverflowError("out of range integral type conversion attempted")

    processor = OutputProcessor(tokenizer, log_stats=False)
    sampling = SamplingParams(max_tokens=9, output_kind=RequestOutputKind.DELTA)
    lean, good, bad = LeanOutputs(processor, LoadMeter()), Listener(False), Listener(False)
    for id, listener in (("bad", bad), ("good", good)):
        add(processor, id, sampling.clone(), Collector(id))
        lean.listen(id, listener)
    processor.request_states["bad"].detokenizer = Broken()
    outputs = [EngineCoreOutput(request_id=id, new_token_ids=[22]) for id in ("bad", "good")]
    assert lean(outputs, 1.0, None).reqs_to_abort == ["bad"]
    assert lean(outputs, 2.0, None).reqs_to_abort == []
    assert good.text == "11"
    assert [str(error) for error in bad.errors] == ["out of range integral type conversion attempted"]


def test_no_role_is_sent_before_the_engine_has_made_a_token(pair):
    from types import SimpleNamespace

    from router.host.adapter.fast import Generation
    from router.host.sse import EventWriter, Head
    from router.ipc.messages import Submit

    head = Head(id="x", model="m", kind="chat", created=1)
    way = SimpleNamespace(head=lambda submit: head, usage_wanted=lambda fields: (False, False), abort=print)
    answer, fields = Noted(), SimpleNamespace(stream=True, n=2)
    generation = Generation(way, Submit(id=1, kind="chat", body=b""), fields, answer)
    generation._writer = EventWriter(head, prompt_tokens=1)

    def output(text, ids, reason=None):
        choice = SimpleNamespace(index=0, text=text, token_ids=ids, finish_reason=reason, stop_reason=None)
        return SimpleNamespace(outputs=[choice], finished=False, num_cached_tokens=0)

    generation.put(output("", []))
    assert answer.chunks == []
    generation.put(output("", [5]))
    assert answer.chunks[0].count(b'"role"') == 2
    late = Generation(way, Submit(id=2, kind="chat", body=b""), fields, refused := Noted())
    late._writer = EventWriter(head, prompt_tokens=1)
    late.put(output("", [], "error"))
    assert refused.chunks == []
    assert refused.failure.status == 502
