"""Ask both models of the pair and write down who was right: `python examples/pair/outcomes.py`.

One row per prompt and model, in Headgate's outcomes schema; `headgate train` reads the table. Knows the questions and
how their answers are checked, not how the models were trained.
"""

import argparse
import hashlib
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import questions
import torch
from answering import answers, render
from questions import Exchange
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import LlamaForCausalLM

HERE = Path(__file__).parent
MODELS = {"pair-small": "small", "pair-large": "large"}
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("prompt_id", "group", "task", "prompt", "model")),
        ("score", pa.float32()),
        ("output_tokens", pa.int32()),
        ("response", pa.string()),
        ("split", pa.string()),
    ]
)


def asked(count: int, seed: int) -> list[Exchange]:
    """`count` different exchanges, the kinds and lengths of sums evenly mixed."""
    rng = random.Random(seed)
    found: dict[str, Exchange] = {}
    while len(found) < count:
        digits = rng.randint(1, 4)
        makers = (
            lambda: questions.short_sum(rng, digits),
            lambda: questions.worded_sum(rng, digits),
            lambda: questions.worded_sum(rng, digits),
            lambda: questions.explained_sum(rng, digits),
            lambda: questions.short_sum(rng, min(digits, 3), 3),
            lambda: questions.counting(rng),
            lambda: questions.fact(rng),
        )
        exchange = rng.choices(makers, (8, 4, 4, 2, 2, 1, 1))[0]()
        found.setdefault(exchange.prompt, exchange)
    return list(found.values())


def digest(text: str) -> str:
    """First 16 hex digits of the sha1."""
    return hashlib.sha1(text.encode()).hexdigest()[:16]


def group(exchange: Exchange) -> str:
    """The same for all wordings of one sum, so that a held-out sum was not seen in other words."""
    return digest("+".join(sorted(questions.numbers_in(exchange.prompt))) or exchange.prompt)


def rows(exchanges: list[Exchange], name: str, told: list[str], tokenizer: Tokenizer) -> list[dict[str, object]]:
    """The table's rows of one model; one group in five is held out."""
    made = []
    for exchange, response in zip(exchanges, told, strict=True):
        held_out = int(group(exchange), 16) % 5 == 0
        made.append(
            {
                "prompt_id": digest(exchange.prompt),
                "group": group(exchange),
                "task": exchange.task,
                "prompt": exchange.prompt,
                "model": name,
                "score": questions.score(exchange, response),
                "output_tokens": len(tokenizer.encode(response).ids) + 1,
                "response": response,
                "split": "test" if held_out else "train",
            }
        )
    return made


def summary(table: list[dict[str, object]], exchanges: list[Exchange]) -> dict[str, dict[str, float]]:
    """Share of right answers of each model, by kind and digits."""
    kinds = {e.prompt: f"{e.task}/{e.digits}" if e.digits else e.task for e in exchanges}
    found: dict[str, dict[str, float]] = {}
    for model in MODELS:
        scores: dict[str, list[float]] = {}
        for row in table:
            if row["model"] == model:
                scores.setdefault(kinds[str(row["prompt"])], []).append(float(str(row["score"])))
        found[model] = {kind: round(sum(got) / len(got), 3) for kind, got in sorted(scores.items())}
    return found


def main() -> None:
    """Ask, check, write."""
    parser = argparse.ArgumentParser(description="Ask both models of the pair and write the outcomes table.")
    parser.add_argument("--prompts", type=int, default=2000)
    parser.add_argument("--models", type=Path, default=HERE, help="folder that holds small/ and large/")
    parser.add_argument("--out", type=Path, default=HERE / "outcomes.parquet")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="no progress bar; print one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(1)
    exchanges = asked(args.prompts, args.seed)
    table: list[dict[str, object]] = []
    for name, folder in MODELS.items():
        tokenizer = Tokenizer.from_file(str(args.models / folder / "tokenizer.json"))
        model = LlamaForCausalLM.from_pretrained(args.models / folder, dtype=torch.float32)
        with tqdm(total=len(exchanges), desc=name, disable=args.json) as bar:
            told = answers(model, tokenizer, [render(exchange) for exchange in exchanges], bar.update)
        table += rows(exchanges, name, told, tokenizer)
    pq.write_table(pa.Table.from_pylist(table, SCHEMA), args.out, compression="zstd")
    found = {"rows": len(table), "bytes": args.out.stat().st_size, "accuracy": summary(table, exchanges)}
    print(json.dumps(found) if args.json else json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
