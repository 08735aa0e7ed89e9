"""Train the pair of tiny models: `python examples/pair/train.py`. Llama architecture, from nothing, on one core.

Writes `small/` and `large/` beside this file, in the layout that vLLM and transformers load. Knows the questions and the
vocabulary; serving and routing are not its business.
"""

import argparse
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import questions
import torch
import vocabulary
from questions import Exchange
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
IGNORED = -100  # the label that torch's cross entropy leaves out


class Recipe(NamedTuple):
    """The shape of one model and what it is taught. `digit_weights[i]` weighs sums of i+1 digits."""

    hidden: int
    layers: int
    heads: int
    context_tokens: int
    digit_weights: tuple[float, ...]
    minutes: float
    batch_tokens: int = 4096
    learning_rate: float = 3e-3


RECIPES = {
    "small": Recipe(64, 2, 2, 512, (3, 6, 1, 0.3), minutes=4),
    "large": Recipe(128, 4, 4, 2048, (1, 2, 4, 6), minutes=12),
}
#: How often each kind of exchange is seen.
MIX: dict[str, float] = {
    "sum": 8, "worded_sum": 3, "sum_of_3": 1, "json_sum": 0.7, "tool_sum": 0.4, "explained_sum": 1, "counting": 0.3, "fact": 0.7,
}  # fmt: skip


def draw(rng: random.Random, recipe: Recipe) -> Exchange:
    """One exchange of the recipe's mix; one in eight comes with a system prompt."""
    task = rng.choices(tuple(MIX), tuple(MIX.values()))[0]
    digits = rng.choices(range(1, len(recipe.digit_weights) + 1), recipe.digit_weights)[0]
    made = {
        "sum": lambda: questions.short_sum(rng, digits),
        "sum_of_3": lambda: questions.short_sum(rng, min(digits, 3), rng.choice((3, 3, 4))),
        "worded_sum": lambda: questions.worded_sum(rng, digits),
        "json_sum": lambda: questions.json_sum(rng, digits),
        "tool_sum": lambda: questions.tool_sum(rng, digits),
        "explained_sum": lambda: questions.explained_sum(rng, digits),
        "counting": lambda: questions.counting(rng),
        "fact": lambda: questions.fact(rng),
    }[task]()
    return made._replace(system=rng.choice(questions.SYSTEMS)) if rng.random() < 0.125 else made


def render(exchange: Exchange) -> str:
    """The prompt as the chat template writes it, up to the answer."""
    tools = f"{vocabulary.TOOL}add {vocabulary.END}" if exchange.tools else ""
    system = f"{vocabulary.SYSTEM}{exchange.system}{vocabulary.END}" if exchange.system else ""
    return f"{tools}{system}{vocabulary.USER}{exchange.prompt}{vocabulary.END}{vocabulary.ASSISTANT}"


def encode(tokenizer: Tokenizer, rng: random.Random, recipe: Recipe, count: int) -> list[tuple[list[int], int]]:
    """`count` exchanges as token ids, each with the number of ids that are its prompt. One plain sum in ten is bare text."""
    drawn = [draw(rng, recipe) for _ in range(count)]
    asked = [e.prompt if e.task == "sum" and rng.random() < 0.1 else render(e) for e in drawn]
    prompts = tokenizer.encode_batch_fast(asked)
    answers = tokenizer.encode_batch_fast([exchange.answer + vocabulary.END for exchange in drawn])
    return [(p.ids + a.ids, len(p.ids)) for p, a in zip(prompts, answers, strict=True)]


def batches(
    tokenizer: Tokenizer, rng: random.Random, recipe: Recipe, pool: int = 8192
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and labels without end, both int64 [rows, longest], about `batch_tokens` each; only answers are labelled.

    Rows of like length share a batch, else most of the work would be padding.
    """
    while True:
        rows = sorted(encode(tokenizer, rng, recipe, pool), key=lambda row: len(row[0]))
        made, first = [], 0
        while first < len(rows):
            last = min(len(rows), first + max(8, recipe.batch_tokens // len(rows[first][0])))
            made.append(padded(rows[first:last]))
            first = last
        rng.shuffle(made)
        yield from made


def padded(rows: list[tuple[list[int], int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """The rows as one pair of tensors, as long as the longest."""
    longest = max(len(ids) for ids, _ in rows)
    ids = torch.zeros(len(rows), longest, dtype=torch.int64)
    labels = torch.full((len(rows), longest), IGNORED)
    for row, (whole, prompt) in enumerate(rows):
        ids[row, : len(whole)] = torch.tensor(whole)
        labels[row, prompt : len(whole)] = ids[row, prompt : len(whole)]
    return ids, labels


def new_model(recipe: Recipe) -> LlamaForCausalLM:
    """An untrained model of the recipe's shape; embeddings are tied."""
    config = LlamaConfig(
        vocab_size=vocabulary.SIZE, hidden_size=recipe.hidden, intermediate_size=recipe.hidden * 3,
        num_hidden_layers=recipe.layers, num_attention_heads=recipe.heads, num_key_value_heads=recipe.heads,
        max_position_embeddings=recipe.context_tokens, rms_norm_eps=1e-5, rope_theta=10000.0, tie_word_embeddings=True,
        initializer_range=recipe.hidden**-0.5 / 2, pad_token_id=0, bos_token_id=None, eos_token_id=1,
        attention_bias=False, use_cache=True,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def learning_rate(recipe: Recipe, spent: float) -> float:
    """Warm up over the first 2 % of the time, hold, and fall to nothing over the last 40 %."""
    return recipe.learning_rate * min(1.0, spent / 0.02, (1.0 - spent) / 0.4)


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the labelled tokens; logits are made for those alone."""
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    wanted = labels[:, 1:]
    kept = wanted != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[kept]), wanted[kept])


def fit(recipe: Recipe, tokenizer: Tokenizer, minutes: float, seed: int, show: bool) -> tuple[LlamaForCausalLM, int]:
    """Train for `minutes`. Returns the model and how many steps it took."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = new_model(recipe)
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.02)
    feed = batches(tokenizer, rng, recipe)
    started, spent, steps = time.monotonic(), 0.0, 0
    bar = tqdm(total=100, unit="%", disable=not show, bar_format="{l_bar}{bar}| {elapsed}<{remaining} {postfix}")
    while spent < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(recipe, spent)
        loss = loss_of(model, *next(feed))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
        spent = (time.monotonic() - started) / (minutes * 60)
        bar.update(min(100.0, spent * 100) - bar.n)
        bar.set_postfix_str(f"step {steps}, loss {loss.item():.3f}")
    bar.close()
    return model.eval(), steps


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> int:
    """Write the model as bfloat16 in the layout that vLLM loads. Returns the folder's size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    GenerationConfig(
        eos_token_id=vocabulary.SPECIALS.index(vocabulary.END), pad_token_id=0, do_sample=False
    ).save_pretrained(folder)
    vocabulary.save(tokenizer, folder, model.config.max_position_embeddings)
    return sum(path.stat().st_size for path in folder.iterdir())


@torch.inference_mode()
def answers(model: LlamaForCausalLM, tokenizer: Tokenizer, prompts: list[str], limit: int = 160) -> list[str]:
    """Greedy answers to rendered prompts, batched from the left-padded prompts."""
    made = []
    for first in range(0, len(prompts), 128):
        encoded = [tokenizer.encode(prompt).ids for prompt in prompts[first : first + 128]]
        longest = max(map(len, encoded))
        ids = torch.tensor([[0] * (longest - len(row)) + row for row in encoded])
        mask = torch.tensor([[0] * (longest - len(row)) + [1] * len(row) for row in encoded])
        out = model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=limit, do_sample=False)
        made += [tokenizer.decode(row[longest:].tolist()) for row in out]
    return made


def accuracy(model: LlamaForCausalLM, tokenizer: Tokenizer, recipe: Recipe, count: int, seed: int) -> dict[str, float]:
    """Share of right answers on exchanges drawn afresh, by kind and digits: {"sum/4": 0.99, ...}."""
    rng = random.Random(seed)
    flat = recipe._replace(digit_weights=(1, 1, 1, 1))
    drawn = [draw(rng, flat) for _ in range(count)]
    told = answers(model, tokenizer, [render(exchange) for exchange in drawn])
    scores: dict[str, list[float]] = {}
    for exchange, text in zip(drawn, told, strict=True):
        name = f"{exchange.task}/{exchange.digits}" if exchange.digits else exchange.task
        scores.setdefault(name, []).append(questions.score(exchange, text))
    return {name: round(sum(got) / len(got), 4) for name, got in sorted(scores.items())}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the pair of tiny models that add numbers, on one CPU core.")
    parser.add_argument("--only", choices=tuple(RECIPES), help="train this one alone (default: both, one after another)")
    parser.add_argument("--minutes", type=float, help="training time of each model (default: its recipe's)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write small/ and large/ into (default: here)")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="no progress bar; print one JSON object")
    return parser.parse_args()


def main() -> None:
    """Train, measure on fresh questions, save."""
    args = arguments()
    torch.set_num_threads(1)
    tokenizer = vocabulary.build()
    report = {}
    for name in (args.only,) if args.only else RECIPES:
        recipe = RECIPES[name]
        minutes = args.minutes or recipe.minutes
        model, steps = fit(recipe, tokenizer, minutes, args.seed, show=not args.json)
        size = save(model, tokenizer, args.out / name)
        measured = accuracy(model.to(torch.float32), tokenizer, recipe, 1000, args.seed + 1)
        report[name] = {
            "parameters": model.num_parameters(), "bytes": size, "minutes": minutes, "steps": steps, "accuracy": measured,
        }  # fmt: skip
        if not args.json:
            print(name, json.dumps(report[name], indent=2))
    if args.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
