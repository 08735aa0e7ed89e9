"""Ask all models of the zoo under vLLM and write down what is seen of their answers: `python examples/zoo/evidence.py`.

One row per prompt and model, in Headgate's outcomes schema, with each token's log-probability, entropy and margin, and
the smallest model's logits at the first token: what `headgate train --router verifier` reads. Prompts come from the
split that neither models nor the workload of benches have. Greedy answers.
"""

import argparse
import json
import multiprocessing
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import lexicon
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import steps
import tasks

HERE = Path(__file__).parent
MODELS = {f"zoo-{member}": member for member in steps.MEMBERS}
PROBED = "zoo-small"
MOST_TOKENS = 64
BATCH = 64  # prompts whose whole distributions are in memory at once
ROUNDED = 16  # parts of a nat that a kept logit is rounded to: the file stays small
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("prompt_id", "group", "task", "prompt", "model", "response")),
        *((name, pa.int32()) for name in ("level", "output_tokens", "prompt_tokens")),
        ("score", pa.float32()),
        ("finish_reason", pa.string()),
        *((name, pa.list_(pa.float16())) for name in ("logprobs", "entropies", "margins", "first_logits")),
    ]
)
Floats = npt.NDArray[np.float64]


class Answer(NamedTuple):
    """`statistics` [tokens, 3]: log-probability, entropy and margin of each token; `first` [vocabulary]: normalised
    logits at the first, in the order of the token ids."""

    text: str
    prompt_tokens: int
    finish_reason: str
    statistics: Floats
    first: Floats


def statistics(logprobs: Floats) -> Floats:
    """[3]: log-probability of the likeliest token, entropy in nats, and margin to the second, of one distribution."""
    second, best = np.partition(logprobs, -2)[-2:]
    known = logprobs[np.isfinite(logprobs)]
    return np.array([min(best, 0.0), max(0.0, -(np.exp(known) * known).sum()), min(best - second, 87.0)])


def answers(folder: str, prompts: Sequence[str]) -> list[Answer]:
    """Of one model, in a process of its own."""
    llm = steps.engine(folder, max_logprobs=-1)
    from vllm import SamplingParams

    # vLLM would make text of each token of each distribution
    limits = SamplingParams(
        max_tokens=MOST_TOKENS, temperature=0, logprobs=-1, flat_logprobs=True, detokenize=False
    )  # fmt: skip
    tokenizer = llm.get_tokenizer()
    found = []
    for at in range(0, len(prompts), BATCH):
        rendered = [lexicon.render(prompt) for prompt in prompts[at : at + BATCH]]
        for told in llm.generate(rendered, limits, use_tqdm=False):
            output = told.outputs[0]
            every = [distribution(output.logprobs, position) for position in range(len(output.token_ids))]
            text = tokenizer.decode(output.token_ids, skip_special_tokens=True)
            seen = np.array([statistics(one) for one in every])
            found.append(Answer(text, len(told.prompt_token_ids), output.finish_reason, seen, every[0]))
    return found


def distribution(flat: object, position: int) -> Floats:
    """[vocabulary] log-probabilities at one position of vLLM's `FlatLogprobs`."""
    start, end = flat.start_indices[position], flat.end_indices[position]  # type: ignore[attr-defined]
    ids = np.array(flat.token_ids[start:end])  # type: ignore[attr-defined]
    out = np.full(ids.max() + 1, -np.inf)
    out[ids] = flat.logprobs[start:end]  # type: ignore[attr-defined]
    return out


def rows(
    questions: Sequence[tasks.Question], name: str, told: Sequence[Answer], first_ids: npt.NDArray[np.int32]
) -> list[dict[str, object]]:
    """The table's rows of one model."""
    out: list[dict[str, object]] = []
    for question, answer in zip(questions, told, strict=True):
        columns = answer.statistics.astype(np.float16).T
        logits = np.round(answer.first[first_ids] * ROUNDED) / ROUNDED if name == PROBED else None
        out.append(
            {
                "prompt_id": tasks.digest(question.prompt),
                "group": question.group,
                "task": question.task,
                "prompt": question.prompt,
                "model": name,
                "response": answer.text,
                "level": question.level,
                "output_tokens": len(answer.statistics),
                "prompt_tokens": answer.prompt_tokens,
                "score": tasks.score(question, answer.text),
                "finish_reason": answer.finish_reason,
                **dict(zip(("logprobs", "entropies", "margins"), columns, strict=True)),
                "first_logits": None if logits is None else logits.astype(np.float16),
            }
        )
    return out


def questions(count: int, seed: int) -> list[tasks.Question]:
    """All tasks and levels alike often, none of them in the workload."""
    found = tasks.mixed(random.Random(seed), 2 * count, "test")
    return [question for question in found if question.router_split == "train"][:count]


def main() -> None:
    """Ask, check, write."""
    parser = argparse.ArgumentParser(
        description="Ask the zoo's models under vLLM and write what is seen of the answers."
    )
    parser.add_argument("--prompts", type=int, default=720)
    parser.add_argument("--out", type=Path, default=HERE / "evidence.parquet")
    parser.add_argument("--seed", type=int, default=13)
    args = parser.parse_args()
    from router.host.watch.vocabulary import first_ids  # as the engines' watch chooses them

    asked = questions(args.prompts, args.seed)
    table: list[dict[str, object]] = []
    ids = np.zeros(0, np.int32)
    for name, folder in MODELS.items():
        with multiprocessing.get_context("spawn").Pool(1) as child:
            told = child.apply(answers, (str(HERE / folder), [question.prompt for question in asked]))
        ids = first_ids(len(told[0].first), len(told[0].first))
        table += rows(asked, name, told, ids)
    schema = SCHEMA.with_metadata({"first_logits_token_ids": json.dumps(ids.tolist())})
    pq.write_table(pa.Table.from_pylist(table, schema), args.out, compression="zstd", compression_level=19)
    accuracy = {name: [row["score"] for row in table if row["model"] == name] for name in MODELS}
    means = {name: round(sum(map(float, map(str, all_))) / len(all_), 3) for name, all_ in accuracy.items()}
    print(json.dumps({"rows": len(table), "bytes": args.out.stat().st_size, "accuracy": means}))


if __name__ == "__main__":
    main()
