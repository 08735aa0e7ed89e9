"""Train the pair of tiny models: `python examples/pair/train.py`. Llama architecture, from nothing, on one core.

Writes `small/` and `large/` beside this file, in the layout that vLLM and transformers load. Knows the questions and
the vocabulary; serving and routing are not its business.
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
from answering import answers, render
from muon import Muon
from questions import Exchange
from tokenizers import Tokenizer
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
IGNORED = -100  # the label that torch's cross entropy leaves out
POOL = 4096  # exchanges drawn at a time, then batched by length


class Lesson(NamedTuple):
    """What a model is taught for some steps. `digit_weights[i]` weighs sums whose longest term has i+1 digits."""

    steps: int
    digit_weights: tuple[float, ...]
    mix: dict[str, float]  #: how often each kind of exchange is seen
    work_from: int  #: sums with a term of so many digits are worked column by column


class Recipe(NamedTuple):
    """The shape of one model, and its lessons."""

    hidden: int
    layers: int
    heads: int
    context_tokens: int
    batch_tokens: int
    lessons: tuple[Lesson, ...]
    learning_rate: float = 0.02


NEVER = 9
SHORT = Lesson(
    5500, (3, 6, 0.8, 0.4), {"sum": 7, "worded_sum": 7, "json_sum": 2, "tool_sum": 1, "counting": 1, "fact": 0.7}, NEVER
)
POLISH = Lesson(
    1500, (2, 6, 0.8, 0.4),
    {"sum": 5, "worded_sum": 9, "json_sum": 1.5, "tool_sum": 1, "tool_answer": 1, "counting": 0.5, "fact": 1}, NEVER,
)  # fmt: skip
COLUMNS = Lesson(
    2000, (1, 2, 3, 4),
    {"sum": 6, "worded_sum": 4, "sum_of_three": 1, "explained_sum": 1, "json_sum": 0.7, "tool_sum": 0.5,
     "counting": 0.5, "fact": 0.5},
    work_from=2,
)  # fmt: skip
#: What the columns leave hard: three terms, single digits in words, counting; and what needs them: work in JSON.
REST = Lesson(
    900, (4, 3, 3, 4),
    {"sum": 3, "worded_sum": 4, "sum_of_three": 5, "explained_sum": 0.3, "worked_json_sum": 0.7, "tool_sum": 0.4,
     "tool_answer": 0.4, "counting": 1, "fact": 0.5},
    work_from=1,
)  # fmt: skip
RECIPES = {
    "small": Recipe(64, 2, 2, 512, 1024, (SHORT, POLISH)),
    "large": Recipe(96, 4, 3, 2048, 2048, (COLUMNS, REST)),
}


def draw(rng: random.Random, lesson: Lesson) -> Exchange:
    """One exchange of the lesson's mix; one in ten comes with a system prompt."""
    task = rng.choices(tuple(lesson.mix), tuple(lesson.mix.values()))[0]
    digits = rng.choices(range(1, len(lesson.digit_weights) + 1), lesson.digit_weights)[0]
    made = {
        "sum": lambda: questions.short_sum(rng, digits, work_from=lesson.work_from),
        "sum_of_three": lambda: questions.short_sum(rng, digits, 3, work_from=lesson.work_from),
        "worded_sum": lambda: questions.worded_sum(rng, digits, work_from=lesson.work_from),
        "json_sum": lambda: questions.json_sum(rng, min(digits, 2)),
        "worked_json_sum": lambda: questions.worked_json_sum(rng, digits),
        "tool_sum": lambda: questions.tool_sum(rng, digits),
        "tool_answer": lambda: questions.tool_answer(rng, digits),
        "explained_sum": lambda: questions.explained_sum(rng, digits),
        "counting": lambda: questions.counting(rng),
        "fact": lambda: questions.fact(rng),
    }[task]()
    return made._replace(system=rng.choice(questions.SYSTEMS)) if rng.random() < 0.1 else made


def encoded(tokenizer: Tokenizer, rng: random.Random, lesson: Lesson, count: int) -> list[tuple[list[int], int]]:
    """`count` exchanges as token ids, each with how many ids are its prompt. One plain sum in ten is bare text."""
    drawn = [draw(rng, lesson) for _ in range(count)]
    asked = [e.prompt if e.task == "sum" and rng.random() < 0.1 else render(e) for e in drawn]
    prompts = tokenizer.encode_batch_fast(asked)
    told = tokenizer.encode_batch_fast([exchange.answer + vocabulary.END for exchange in drawn])
    return [(p.ids + a.ids, len(p.ids)) for p, a in zip(prompts, told, strict=True)]


def batches(
    tokenizer: Tokenizer, rng: random.Random, lesson: Lesson, batch_tokens: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and labels without end, both int64 [rows, longest], about `batch_tokens` each.

    Only answers are labelled. Rows of like length share a batch, else most of the work would be padding.
    """
    while True:
        rows = sorted(encoded(tokenizer, rng, lesson, POOL), key=lambda row: len(row[0]))
        made = []
        while rows:
            count = max(4, batch_tokens // len(rows[0][0]))
            made.append(padded(rows[:count]))
            rows = rows[count:]
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
        max_position_embeddings=recipe.context_tokens, rms_norm_eps=1e-5, tie_word_embeddings=True,
        initializer_range=recipe.hidden**-0.5 / 2, pad_token_id=0, bos_token_id=None,
        eos_token_id=vocabulary.SPECIALS.index(vocabulary.END),
    )  # fmt: skip
    return LlamaForCausalLM(config)


def optimizers(model: LlamaForCausalLM, recipe: Recipe) -> list[torch.optim.Optimizer]:
    """Muon for the matrices, AdamW for the rest."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        (matrices if parameter.ndim == 2 and "embed" not in name else rest).append(parameter)
    return [Muon(matrices, recipe.learning_rate), torch.optim.AdamW(rest, recipe.learning_rate * 0.3, (0.9, 0.98))]


def rate(spent: float) -> float:
    """Share of the learning rate: up over the first 2 % of the steps, held, and down to nothing over the last 40 %."""
    return min(1.0, spent / 0.02 + 0.02, (1.0 - spent) / 0.4)


def loss_of(model: LlamaForCausalLM, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross entropy of the labelled tokens; logits are made for those alone."""
    hidden = model.model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    wanted = labels[:, 1:]
    kept = wanted != IGNORED
    return torch.nn.functional.cross_entropy(model.lm_head(hidden[kept]), wanted[kept])


def teach(
    model: LlamaForCausalLM, recipe: Recipe, lesson: Lesson, tokenizer: Tokenizer, rng: random.Random, show: bool
) -> None:
    """One lesson, from its first step to its last."""
    movers = optimizers(model, recipe)
    full = [mover.param_groups[0]["lr"] for mover in movers]
    feed = batches(tokenizer, rng, lesson, recipe.batch_tokens)
    with tqdm(range(lesson.steps), disable=not show, unit="step", mininterval=1.0) as bar:
        for step in bar:
            for mover, lr in zip(movers, full, strict=True):
                mover.param_groups[0]["lr"] = lr * rate(step / lesson.steps)
            loss = loss_of(model, *next(feed))
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            for mover in movers:
                mover.step()
            model.zero_grad()
            bar.set_postfix_str(f"loss {loss.item():.3f}", refresh=False)


def fit(recipe: Recipe, tokenizer: Tokenizer, seed: int, show: bool) -> LlamaForCausalLM:
    """A model that has had all lessons of its recipe; the same for the same seed, on one machine."""
    torch.manual_seed(seed)
    rng = random.Random(seed)
    model = new_model(recipe)
    for lesson in recipe.lessons:
        teach(model, recipe, lesson, tokenizer, rng, show)
    return model.eval()


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> int:
    """Write the model as bfloat16 in the layout that vLLM loads. Returns the folder's size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.bfloat16).save_pretrained(folder)
    # vLLM takes its default temperature from here: an adder should not guess.
    generation = {"eos_token_id": model.config.eos_token_id, "pad_token_id": 0, "do_sample": False, "temperature": 0.0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    vocabulary.save(tokenizer, folder, model.config.max_position_embeddings)
    return sum(path.stat().st_size for path in folder.iterdir())


def accuracy(model: LlamaForCausalLM, tokenizer: Tokenizer, lesson: Lesson, count: int, seed: int) -> dict[str, float]:
    """Share of right answers on exchanges drawn afresh, all lengths alike, by kind and digits: {"sum/4": 0.99, ...}."""
    rng = random.Random(seed)
    flat = lesson._replace(digit_weights=(1, 1, 1, 1))
    drawn = [draw(rng, flat) for _ in range(count)]
    told = answers(model, tokenizer, [render(exchange) for exchange in drawn])
    scores: dict[str, list[float]] = {}
    for exchange, text in zip(drawn, told, strict=True):
        name = f"{exchange.task}/{exchange.digits}" if exchange.digits else exchange.task
        scores.setdefault(name, []).append(questions.score(exchange, text))
    return {name: round(sum(got) / len(got), 3) for name, got in sorted(scores.items())}


def shortened(recipe: Recipe, steps: int | None) -> Recipe:
    """The recipe with lessons of `steps` steps each; as it is when None."""
    return recipe._replace(lessons=tuple(lesson._replace(steps=steps or lesson.steps) for lesson in recipe.lessons))


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the pair of tiny models that add numbers, on one CPU core.")
    parser.add_argument(
        "--only", choices=tuple(RECIPES), help="train this one alone (default: both, one after another)"
    )
    parser.add_argument("--steps", type=int, help="training steps of each lesson (default: its own)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write small/ and large/ into (default: here)")
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--json", action="store_true", help="no progress bar; print one JSON object")
    return parser.parse_args()


def trained(name: str, args: argparse.Namespace, tokenizer: Tokenizer) -> dict[str, object]:
    """Train one model, save it, measure what was saved on fresh questions."""
    recipe = shortened(RECIPES[name], args.steps)
    before = time.process_time()
    model = fit(recipe, tokenizer, args.seed, show=not args.json)
    cpu_s = time.process_time() - before
    size = save(model, tokenizer, args.out / name)
    saved = LlamaForCausalLM.from_pretrained(args.out / name, dtype=torch.float32)
    measured = accuracy(saved, tokenizer, recipe.lessons[-1], 1500, args.seed + 1)
    return {"parameters": model.num_parameters(), "bytes": size, "cpu_s": round(cpu_s), "accuracy": measured}


def main() -> None:
    """Train, save, measure, report."""
    args = arguments()
    torch.set_num_threads(1)
    tokenizer = vocabulary.build()
    report = {}
    for name in (args.only,) if args.only else RECIPES:
        report[name] = trained(name, args, tokenizer)
        if not args.json:
            print(name, json.dumps(report[name], indent=2))
    if args.json:
        print(json.dumps(report))


if __name__ == "__main__":
    main()
