"""What a full batch lane costs live requests: their p95 TTFT beside it and without it, in engine steps.

By default over a stub whose engine runs in steps as vLLM's does (`stepping_host.py`); with `--model` over a real one.
Live requests are streamed chats, `--streams` at a time; the batch has more lines than the lane can finish meanwhile. A
step is the median time between two tokens of the live streams beside the lane.
"""

import asyncio
import io
import json
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import headgate_server
import launch
import openai
import prompts
import report

from router.learn.bench import client

GOALS = (report.Goal("added_steps", 1),)
STEP_S, TOKEN_S = 0.01, 0.00005
CHAT = "/v1/chat/completions"
_STEPPING = Path(__file__).resolve().parent / "stepping_host.py"


class Sample(NamedTuple):
    ttft_p50_ms: float
    ttft_p95_ms: float
    step_ms: float


def measure(server: launch.Server, requests: list[bytes], *, streams: int, count: int) -> Sample:
    answers, _ = asyncio.run(client.closed_loop(server.url, requests, streams=streams, count=count))
    assert all(answer.status == 200 and answer.complete for answer in answers)
    ttft = [answer.ttft_s * 1e3 for answer in answers]
    gaps = [gap * 1e3 for answer in answers for gap in answer.gaps_s()]
    return Sample(report.quantile(ttft, 0.5), report.quantile(ttft, 0.95), report.quantile(gaps, 0.5))


def begin(api: openai.OpenAI, lines: int, words: int, told: dict[str, Any]) -> str:
    """A batch that runs; its id."""
    made = io.BytesIO()
    for number, text in enumerate(prompts.texts(lines, words, seed=1)):
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **told}
        asked = {"custom_id": str(number), "method": "POST", "url": CHAT, "body": body}
        made.write(json.dumps(asked).encode() + b"\n")
    made.name = "in.jsonl"
    made.seek(0)
    file = api.files.create(file=made, purpose="batch")
    batch = api.batches.create(input_file_id=file.id, endpoint=CHAT, completion_window="24h")
    wait(api, batch.id, lambda now: now.request_counts.completed > 0)
    return batch.id


def wait(api: openai.OpenAI, id: str, reached: Any) -> Any:
    end = time.monotonic() + 600
    while not reached(now := api.batches.retrieve(id)):
        if time.monotonic() > end:
            raise RuntimeError(f"the batch does not get on: {now}")
        time.sleep(0.05)
    return now


def member(args: Any) -> dict[str, Any]:
    if args.model:
        return {"name": "m", "model": args.model, "strength": 0.5, "engine_args": json.loads(args.engine_args)}
    stub = {"step_s": STEP_S, "token_s": TOKEN_S, "most_running": 64, "budget": 2048}
    return {"name": "m", "model": "stub", "strength": 0.5, "engine_args": stub}


def main() -> None:
    parser = report.parser(__doc__)
    parser.add_argument("--model", default="", help="a real engine's model, instead of the stub")
    parser.add_argument("--engine-args", default="{}", help="its arguments, JSON")
    parser.add_argument("--streams", type=int, default=4, help="live requests at once")
    parser.add_argument("--running", type=int, default=16, help="batches.running")
    parser.add_argument("--words", type=int, default=100, help="of a prompt, live or of a line")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer")
    args = parser.parse_args()
    runs, count, lines = (1, 24, 400) if args.quick else (args.runs, 400, 100_000)
    texts = prompts.texts(64, args.words, seed=2)
    told = {"max_tokens": args.tokens, "ignore_eos": True}
    if not args.model:  # the stub does not count them itself
        told["prompt_tokens"] = args.words * 4 // 3
    requests = [client.post(CHAT, prompts.chat(text, model="m", stream=True, **told)) for text in texts]
    samples: dict[str, list[Sample]] = {"alone": [], "beside": []}
    done = 0
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        branches = {"batches": {"path": f"{folder}/batches", "running": args.running}}
        with (
            headgate_server.run([member(args)], stub=not args.model, host=_STEPPING, branches=branches) as server,
            openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as api,
        ):
            measure(server, requests, streams=args.streams, count=16)
            for run in range(runs):
                samples["alone"].append(measure(server, requests, streams=args.streams, count=count))
                id = begin(api, lines, args.words, told)
                before = api.batches.retrieve(id).request_counts.completed
                samples["beside"].append(measure(server, requests, streams=args.streams, count=count))
                now = api.batches.retrieve(id)
                assert args.quick or now.status == "in_progress", f"the lane ran dry: {now}"
                done += now.request_counts.completed - before
                if now.status == "in_progress":
                    api.batches.cancel(id)
                wait(api, id, lambda now: now.status in ("cancelled", "completed"))
                report.progress(f"run {run + 1}/{runs}: {samples['alone'][-1]} alone, {samples['beside'][-1]} beside")
    report.finish(args, "batch_lane", figures(samples, done), goals=GOALS)


def figures(samples: dict[str, list[Sample]], done: int) -> dict[str, Any]:
    told = {
        name: {field: report.spread([getattr(sample, field) for sample in of]) for field in Sample._fields}
        for name, of in samples.items()
    }
    step_ms = told["beside"]["step_ms"]["median"]
    added_ms = told["beside"]["ttft_p95_ms"]["median"] - told["alone"]["ttft_p95_ms"]["median"]
    return {
        "added_steps": round(added_ms / step_ms, 3) if step_ms else None,
        "added_ms": round(added_ms, 3),
        "lines_done_beside": done,
        **told,
    }


if __name__ == "__main__":
    main()
