"""CPU of the frontend process per streamed token, and whether every token arrives once and in order. With `--base`,
also its machine instructions, to those of another checkout.

Two stub engine hosts emit numbered tokens in ticks, one for every running stream, as an engine's steps do. The client
checks each stream's numbers. CPU counts everything that the frontend does for a stream: request, decision, tokens, end.
Instructions are those of a token alone, at 64 streams, as `instructions.py` counts them.
"""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cpu
import headgate_server
import instructions
import launch
import prompts
import report

from router.learn.bench import client

GOALS = (report.Goal("cpu_us_per_token", 8), report.Goal("lost", 0), report.Goal("instructions_ratio", 1.02))
AT_STREAMS = 64  #: where `cpu_us_per_token` is read
LOSS_STREAMS = 512  #: where tokens may be lost as well as at `AT_STREAMS`: `lost` is of both
COUNTED = f"token_of_{AT_STREAMS}_streams"  #: the work whose instructions are compared


class Sample(NamedTuple):
    tokens: int  #: received, however wrong
    lost: int  #: missing, doubled or out of order
    cpu_us: float  #: per token
    per_s: float
    ttft_p50_ms: float
    gap_p99_ms: float  #: between arrivals of one stream


def check(answer: client.Answer, expected: int) -> tuple[int, int]:
    """Tokens of a stream, and how many of the numbers 0..expected-1 did not come once and in their place."""
    events = answer.body.decode().split("\n\n")
    pieces = [event[6:] for event in events if event]
    closed = bool(pieces) and pieces[-1] == "[DONE]"
    deltas = [json.loads(piece)["choices"][0]["delta"].get("content") or "" for piece in pieces if piece != "[DONE]"]
    numbers = [int(delta) for delta in deltas if delta]
    right = sum(1 for at, number in enumerate(numbers[:expected]) if at == number)
    wrong = (expected - right) + max(0, len(numbers) - expected)
    return len(numbers), wrong if closed and answer.status == 200 else max(wrong, 1)


def measure(server: launch.Server, requests: Sequence[bytes], *, streams: int, waves: int, tokens: int) -> Sample:
    """`streams` at once, each followed by the next, `waves` deep."""
    before = cpu.seconds(server.pid)
    answers, wall_s = asyncio.run(client.closed_loop(server.url, requests, streams=streams, count=streams * waves))
    spent = cpu.seconds(server.pid) - before
    checked = [check(answer, tokens) for answer in answers]
    received, lost = (sum(column) for column in zip(*checked, strict=True))
    lost += (streams * waves - len(answers)) * tokens
    gaps = [gap for answer in answers for gap in answer.gaps_s()]
    ttft_ms = report.quantile([answer.ttft_s for answer in answers], 0.5) * 1e3
    gap_ms = report.quantile(gaps, 0.99) * 1e3
    return Sample(received, lost, spent / received * 1e6, received / wall_s, ttft_ms, gap_ms)


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16, 64, 256, 512], help="streams at once")
    parser.add_argument("--tokens", type=int, default=256, help="of each answer")
    parser.add_argument("--tick-ms", type=float, default=10.0, help="time between two tokens of a stream")
    parser.add_argument("--words", type=int, default=100, help="words of a prompt")
    parser.add_argument(
        "--base", type=Path, help="another checkout, built, to compare instructions with; needs valgrind"
    )
    args = parser.parse_args()
    if args.base is not None and (missing := instructions.missing_tools()):
        parser.exit(2, f"{missing}\n")
    launch.prefer(args.priority)
    runs, tokens = (2, 32) if args.quick else (args.runs, args.tokens)
    levels = sorted({16, AT_STREAMS, LOSS_STREAMS} if args.quick else {*args.streams, AT_STREAMS, LOSS_STREAMS})
    texts = prompts.texts(256, args.words)
    requests = [client.post("/v1/chat/completions", prompts.chat(t, stream=True, max_tokens=tokens)) for t in texts]
    samples: dict[int, list[Sample]] = {level: [] for level in levels}
    with headgate_server.run(headgate_server.stub_members(args.tick_ms / 1e3), stub=True) as server:
        measure(server, requests, streams=16, waves=1, tokens=tokens)
        for run in range(runs):
            for level in levels:
                waves = max(1, 128 // level) if level < AT_STREAMS else 2
                sample = measure(server, requests, streams=level, waves=min(waves, 4), tokens=tokens)
                samples[level].append(sample)
                report.progress(
                    f"run {run + 1}/{runs}, {level} streams: {sample.cpu_us:.2f} us a token, "
                    f"{sample.per_s:.0f} tokens/s, lost {sample.lost}"
                )
    counted = None if args.base is None else instructions.compare(args.base, COUNTED)
    report.finish(args, "streaming", figures(samples, tokens, counted), goals=GOALS)


def figures(
    samples: dict[int, list[Sample]], tokens: int, counted: instructions.Compared | None = None
) -> dict[str, Any]:
    levels = {
        str(level): {field: report.spread([getattr(sample, field) for sample in of]) for field in Sample._fields}
        for level, of in samples.items()
    }
    return {
        "cpu_us_per_token": levels[str(AT_STREAMS)]["cpu_us"]["median"],
        "instructions_ratio": None if counted is None else round(counted.ratio, 4),
        "lost": sum(sample.lost for level in (AT_STREAMS, LOSS_STREAMS) for sample in samples[level]),
        "lost_any_level": sum(sample.lost for of in samples.values() for sample in of),
        "tokens_per_answer": tokens,
        "instructions": None if counted is None else counted._asdict(),
        "streams": levels,
    }


if __name__ == "__main__":
    main()
