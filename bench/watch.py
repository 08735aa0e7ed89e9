"""What the watch on running answers costs: CPU of the engine core a token, watched against an engine without it, at 16
and 64 rows, interleaved; bytes from core to host a token, both ways; tokens made beyond the deciding step.

Two real engines of one model (examples/zoo's large one, or --model) as an engine host holds them, in this process. The
watch has a boundary that is looked at in each step and never crossed.
"""

import argparse
import asyncio
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cpu
import launch
import report
from price_pool import ONE_PROCESS

from router.host.base import ErrorAnswer
from router.host.watch.requests import logger as host_log
from router.ipc.messages import Handoff, Submit
from router.ipc.spec import HostSpec
from router.types import Usage
from router.watched import Figures

GOALS = (
    report.Goal("watch_16", 1.02),
    report.Goal("watch_64", 1.05),
    report.Goal("watch_bytes", 1.0),
    report.Goal("beyond", 0.0),
)
ROWS = (16, 64)
LOOKS = json.dumps({"statistic": "logprob", "knots": [[8, -50.0], [400, -40.0]]}).encode()
STOPS = json.dumps({"statistic": "tokens", "knots": [[8, 0]]}).encode()
_ENVIRONMENT = {
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "OMP_NUM_THREADS": "1",
    "VLLM_CPU_CI_ENV": "1",
    "HF_HUB_OFFLINE": "1",
    "VLLM_NO_USAGE_STATS": "1",
}


class Answer:
    """How one answer ended."""

    def __init__(self) -> None:
        self.ended: asyncio.Future[Handoff | int] = asyncio.get_running_loop().create_future()
        self.figures: Figures | None = None

    def begun(self) -> None: ...

    def chunk(self, data: bytes) -> None: ...

    def untimed(self) -> None: ...

    def done(self, usage: Usage, finish_reason: str, figures: Figures | None = None, first_logits: bytes = b"") -> None:
        self.figures = figures
        self.ended.set_result(usage.completion_tokens)

    def handoff(self, handed: Handoff) -> None:
        self.ended.set_result(handed)

    def fail(self, failure: ErrorAnswer) -> None:
        self.ended.set_exception(RuntimeError(failure.body.decode()))


class Contestant:
    """One engine, its core's process, and the bytes that came from it."""

    def __init__(self, engine: Any, core: int, watch: bytes) -> None:
        self.engine, self.core, self.watch = engine, core, watch
        self.bytes = self.tokens = 0
        client = engine._engine.engine_core
        client.decoder = _Counting(client.decoder, self._came)

    def _came(self, frames: Any, outputs: Any) -> None:
        self.bytes += sum(len(frame) for frame in frames)
        self.tokens += sum(len(output.new_token_ids) for output in outputs.outputs)

    async def run(self, rows: int, tokens: int, watch: bytes | None = None) -> list[Answer]:
        """So many answers at once, to their ends."""
        wanted = self.watch if watch is None else watch
        answers = []
        for at in range(rows):
            body = {
                "prompt": f"What is {at} plus {at + 3}? Say one two three",
                "max_tokens": tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
            }
            answers.append(Answer())
            submit = Submit(id=at, kind="completions", body=json.dumps(body).encode(), watch=wanted)
            self.engine.start(submit, answers[-1])
        await asyncio.gather(*(answer.ended for answer in answers))
        return answers

    async def microseconds(self, rows: int, tokens: int) -> float:
        """CPU of the core a token."""
        before = cpu.seconds(self.core)
        answers = await self.run(rows, tokens)
        if self.watch and any(answer.figures is None or answer.figures.tokens != tokens for answer in answers):
            raise RuntimeError("an answer was not watched to its end")
        return (cpu.seconds(self.core) - before) / (rows * tokens) * 1e6


class _Counting:
    def __init__(self, inner: Any, came: Callable[[Any, Any], None]) -> None:
        self._inner, self._came = inner, came

    def decode(self, frames: Any) -> Any:
        outputs = self._inner.decode(frames)
        self._came(frames, outputs)
        return outputs


async def start(model: str, folder: str, watch: bool) -> Contestant:
    from router.host.adapter.engine import VllmEngine

    before = _cores()
    args = {
        "dtype": "float32",
        "kv_cache_memory_bytes": 1 << 30,
        "block_size": 32,
        "enforce_eager": True,
        "max_model_len": 512,
        "max_num_seqs": max(ROWS),
        "distributed_executor_backend": ONE_PROCESS,
        "enable_prefix_caching": False,
    }
    spec = HostSpec(
        name="m", model=model, socket=f"{folder}/{watch}.sock", engine_args=args, warm_up=False, watch=watch
    )
    engine = await VllmEngine.open(spec)
    if ("watch" in engine.facts.verbs) != watch:
        raise RuntimeError(f"this engine {'cannot be' if watch else 'is'} watched")
    (core,) = _cores() - before
    launch.prefer_tree(os.getpid())
    return Contestant(engine, core, LOOKS if watch else b"")


def _cores() -> set[int]:
    return {process.pid for process in cpu.tree(os.getpid()) if process.is_engine_core}


async def measure(args: argparse.Namespace) -> dict[str, Any]:
    tokens, runs = (40, 2) if args.quick else (args.tokens, args.runs)
    figures: dict[str, Any] = {"model": Path(args.model).name, "tokens": tokens}
    with tempfile.TemporaryDirectory(prefix="hg-") as folder:
        on, off = await start(args.model, folder, True), await start(args.model, folder, False)
        figures["vocabulary"] = on.engine._engine.model_config.get_vocab_size()
        try:
            for each in (on, off):
                await each.run(max(ROWS), 20)
            for rows in ROWS:
                report.progress(f"{rows} rows")
                found: dict[Contestant, list[float]] = {on: [], off: []}
                for turn in range(runs):
                    for each in (on, off) if turn % 2 else (off, on):
                        found[each].append(await each.microseconds(rows, tokens))
                figures[f"on_{rows}_us"], figures[f"off_{rows}_us"] = (report.spread(found[each]) for each in (on, off))
                ratios = report.spread(report.ratios(found[on], found[off]))
                figures[f"watch_{rows}"], figures[f"ratio_{rows}"] = ratios["median"], ratios
            figures |= await _bytes(on, off, tokens)
            figures["beyond"], figures["stopped"] = await _beyond(on)
        finally:
            on.engine.close()
            off.engine.close()
    return figures


async def _bytes(on: Contestant, off: Contestant, tokens: int) -> dict[str, float]:
    """Bytes a token of one stream alone: how many tokens come in one message is the same then."""
    each = {}
    for name, contestant in (("on", on), ("off", off)):
        contestant.bytes = contestant.tokens = 0
        await contestant.run(1, tokens)
        each[name] = contestant.bytes / contestant.tokens
    return {
        "bytes_on": round(each["on"], 2),
        "bytes_off": round(each["off"], 2),
        "watch_bytes": round(each["on"] / each["off"], 4),
    }


async def _beyond(on: Contestant) -> tuple[int, int]:
    """The most tokens of an answer behind the distribution that stopped it, and how many answers were stopped."""
    ends = [await answer.ended for answer in await on.run(16, 200, STOPS)]
    stopped = [end for end in ends if isinstance(end, Handoff) and end.figures is not None]
    return max((end.tokens - (end.figures.tokens - 1) for end in stopped if end.figures), default=0), len(stopped)


def main() -> None:
    parser = report.parser(__doc__, runs=9)
    parser.add_argument("--model", default=str(report.ROOT / "examples" / "zoo" / "large"))
    parser.add_argument("--tokens", type=int, default=200, help="of each answer")
    args = parser.parse_args()
    os.environ.update(_ENVIRONMENT)
    launch.prefer(args.priority)
    host_log.setLevel("WARNING")
    report.finish(args, "watch", asyncio.run(measure(args)), goals=GOALS, distributions=("vllm", "torch"))


if __name__ == "__main__":
    main()
