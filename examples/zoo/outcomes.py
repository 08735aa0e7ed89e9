"""Ask all models of the zoo and write down who was right: `python examples/zoo/outcomes.py`.

One row per prompt and model, in Headgate's outcomes schema; `headgate train` reads the table. Prompts come from the
split that no model was trained on. Knows the questions and how answers are checked, not how the models were trained.
"""

import argparse
import json
import random
from pathlib import Path

import lexicon
import pyarrow as pa
import pyarrow.parquet as pq
import tasks
import torch
from borrowed import answers
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import LlamaForCausalLM

HERE = Path(__file__).parent
MODELS = {"zoo-small": "small", "zoo-middle": "middle", "zoo-large": "large"}
SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in ("prompt_id", "group", "task", "prompt", "model")),
        ("level", pa.int32()),
        ("score", pa.float32()),
        ("output_tokens", pa.int32()),
        ("response", pa.string()),
        ("split", pa.string()),
    ]
)


def told(folder: Path, prompts: list[str], show: bool) -> tuple[list[str], list[int]]:
    """A model's greedy answers, and their lengths in tokens with the one that ends them."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with tqdm(total=len(prompts), desc=folder.name, disable=not show) as bar:
        texts = answers(model, tokenizer, [lexicon.render(prompt) for prompt in prompts], bar.update)
    return texts, [len(tokenizer.encode(text).ids) + 1 for text in texts]


def rows(questions: list[tasks.Question], name: str, texts: list[str], tokens: list[int]) -> list[dict[str, object]]:
    """The table's rows of one model."""
    return [
        {
            "prompt_id": tasks.digest(question.prompt),
            "group": question.group,
            "task": question.task,
            "prompt": question.prompt,
            "model": name,
            "level": question.level,
            "score": tasks.score(question, text),
            "output_tokens": length,
            "response": text,
            "split": question.router_split,
        }
        for question, text, length in zip(questions, texts, tokens, strict=True)
    ]


def summary(table: list[dict[str, object]]) -> dict[str, dict[str, float]]:
    """Share of right answers of each model: {"zoo-small": {"all": 0.5, "add/1": 0.98, ...}}."""
    found: dict[str, dict[str, list[float]]] = {}
    for row in table:
        for cell in ("all", f"{row['task']}/{row['level']}"):
            found.setdefault(str(row["model"]), {}).setdefault(cell, []).append(float(str(row["score"])))
    return {
        model: {cell: round(sum(got) / len(got), 3) for cell, got in cells.items()} for model, cells in found.items()
    }


def markdown(accuracy: dict[str, dict[str, float]]) -> str:
    """The README's table: a row a task, in each field the levels 1 to 4."""
    columns = [["task", "---", *tasks.TASKS, "all"]]
    for name, cells in accuracy.items():
        levels = (" / ".join(f"{cells[f'{task}/{level}']:.2f}" for level in tasks.LEVELS) for task in tasks.TASKS)
        columns.append([name, "---", *levels, f"{cells['all']:.3f}"])
    return "\n".join(f"| {' | '.join(fields)} |" for fields in zip(*columns, strict=True))


def main() -> None:
    """Ask, check, write."""
    parser = argparse.ArgumentParser(description="Ask the zoo's models and write the outcomes table.")
    parser.add_argument("--prompts", type=int, default=2400)
    parser.add_argument("--models", type=Path, default=HERE, help="folder that holds small/, middle/ and large/")
    parser.add_argument("--out", type=Path, default=HERE / "outcomes.parquet")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--json", action="store_true", help="no progress bar; print one JSON object")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    questions = tasks.mixed(random.Random(args.seed), args.prompts, "test")
    table: list[dict[str, object]] = []
    for name, folder in MODELS.items():
        texts, tokens = told(args.models / folder, [question.prompt for question in questions], not args.json)
        table += rows(questions, name, texts, tokens)
    pq.write_table(pa.Table.from_pylist(table, SCHEMA), args.out, compression="zstd")
    accuracy = summary(table)
    if args.json:
        print(json.dumps({"rows": len(table), "bytes": args.out.stat().st_size, "accuracy": accuracy}))
    else:
        print(markdown(accuracy))


if __name__ == "__main__":
    main()
