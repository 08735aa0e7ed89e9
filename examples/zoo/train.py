"""Train the zoo: `python examples/zoo/train.py`. Three Llamas, the deep ones grown out of shallow ones, on CPU cores.

Runs the stages below one after another, each from the weights of an earlier one or from nothing, and writes `small/`,
`middle/` and `large/` beside this file. Stopped, it goes on from its last checkpoint. Knows no serving and no routing.
"""

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import lexicon
import tasks
import torch
from borrowed import Muon, vocabulary
from stack import Shape, Stack, as_llama, deepened
from tokenizers import Tokenizer
from torch.nn import functional as F
from tqdm import tqdm

HERE = Path(__file__).resolve().parent
WORK = HERE.parents[1] / "build" / "zoo"
IGNORED = -100  # the label that torch's cross entropy leaves out
WAITING = 0.1  # how often a level is drawn while nothing below it is right, to when all is
PARTS = 3  # of one step's rows, by length, so that little is padding
CELLS = tuple((task, level) for task in tasks.TASKS for level in tasks.LEVELS)
Row = tuple[list[int], int, int]  # token ids, how many of them are the prompt, the number of the cell


class Stage(NamedTuple):
    """Some steps of training. A stage without `start` begins with an untrained model of `shape`."""

    steps: int
    shape: Shape | None = None
    start: str = ""  #: the stage whose weights it begins with
    copies: int = 1  #: each layer of those, so often
    rate: float = 0.02  #: Muon's learning rate; AdamW's is .3 of it
    cooled: float = 0.0  #: the share of steps, at the end, over which the rate falls to nothing
    rows: int = 64  #: questions a step, about 2,500 tokens
    levels: tuple[float, ...] = (1, 1, 1, 1)  #: how often each level is drawn, before the losses are looked at


STAGES = {
    "trunk": Stage(1500, Shape(6, 96, 192), rows=48),
    "small": Stage(450, Shape(2, 64, 192), cooled=0.4, levels=(3, 2, 1, 1)),
    "middle": Stage(40, start="trunk", copies=2, rate=0.01, cooled=1.0),
    "trunk2": Stage(2000, start="trunk", rate=0.015, cooled=0.72),
    "large": Stage(40, start="trunk2", copies=7, rate=0.002, cooled=1.0),
}
KEPT = ("small", "middle", "large")


def final_shape(name: str) -> Shape:
    """The shape a stage ends with."""
    stage = STAGES[name]
    if stage.shape:
        return stage.shape
    before = final_shape(stage.start)
    return before._replace(layers=before.layers * stage.copies)


class Chances:
    """How often each cell is drawn: more often where answers still cost many nats, never never.

    A cell's nats are the mean loss of a whole answer; exp(-nats) is about its chance to be right. A level waits for
    the one below: it is drawn the more often, the more of those answers are right.
    """

    def __init__(self, levels: tuple[float, ...]) -> None:
        self.levels = levels
        self.nats = [3.0] * len(CELLS)

    def weights(self) -> list[float]:
        """One per cell."""
        found = []
        for place, (_, level) in enumerate(CELLS):
            below = 1.0 if level == 1 else WAITING + (1 - WAITING) * math.exp(-self.nats[place - 1])
            found.append(self.levels[level - 1] * below * (0.2 + min(self.nats[place], 3.0)))
        return found

    def learn(self, cells: list[int], nats: list[float]) -> None:
        """Take in the losses of answers."""
        for cell, loss in zip(cells, nats, strict=True):
            self.nats[cell] += 0.05 * (loss - self.nats[cell])

    def right(self) -> float:
        """About the share of right answers over all cells."""
        return float(torch.tensor(self.nats).neg().exp().mean())


def drawn(rng: random.Random, chances: Chances, rows: int, tokenizer: Tokenizer) -> list[Row]:
    """Questions of the training split, as token ids."""
    cells = rng.choices(range(len(CELLS)), chances.weights(), k=rows)
    asked = [tasks.draw(rng, *CELLS[cell], "train") for cell in cells]
    prompts = tokenizer.encode_batch_fast([lexicon.render(question.prompt) for question in asked])
    told = tokenizer.encode_batch_fast([question.answer + vocabulary.END for question in asked])
    return [(p.ids + a.ids, len(p.ids), cell) for p, a, cell in zip(prompts, told, cells, strict=True)]


def parts(rows: list[Row]) -> Iterator[tuple[torch.Tensor, torch.Tensor, list[int]]]:
    """The rows by length in `PARTS` batches: token ids and labels, both int64 [rows, longest], and the cells."""
    rows = sorted(rows, key=lambda row: len(row[0]))
    each = -(-len(rows) // PARTS)
    for first in range(0, len(rows), each):
        part = rows[first : first + each]
        ids = torch.zeros(len(part), len(part[-1][0]), dtype=torch.int64)
        labels = torch.full_like(ids, IGNORED)
        for row, (whole, prompt, _) in enumerate(part):
            ids[row, : len(whole)] = torch.tensor(whole)
            labels[row, prompt : len(whole)] = ids[row, prompt : len(whole)]
        yield ids, labels, [cell for *_, cell in part]


def answer_nats(stack: Stack, ids: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of each row's answer, summed over its tokens, [rows]; logits are made for labelled tokens alone."""
    wanted = labels[:, 1:]
    kept = wanted != IGNORED
    losses = F.cross_entropy(stack.logits(stack(ids[:, :-1])[kept]), wanted[kept], reduction="none")
    return torch.zeros(len(ids)).index_add(0, kept.nonzero()[:, 0], losses)


def share(stage: Stage, step: int) -> float:
    """Share of the learning rate: up over the first 30 steps, held, down to nothing over the cooled ones."""
    left = (stage.steps - step) / stage.steps
    return min(1.0, (step + 1) / 30, left / stage.cooled if stage.cooled else 1.0)


class Run:
    """One stage under way: model, optimizers, chances, step. Written to one file, and read back."""

    def __init__(self, stage: Stage, stack: Stack) -> None:
        self.stage, self.stack, self.step, self.cpu_s = stage, stack, 0, 0.0
        self.chances = Chances(stage.levels)
        self.movers = [
            Muon(stack.matrices(), stage.rate),
            torch.optim.AdamW(stack.vectors(), stage.rate * 0.3, (0.9, 0.98)),
        ]

    def save(self, path: Path) -> None:
        """Write all that is needed to go on."""
        state = {
            "shape": tuple(self.stack.shape), "step": self.step, "steps": self.stage.steps, "cpu_s": self.cpu_s,
            "nats": self.chances.nats, "weights": self.stack.state_dict(),
            "movers": [mover.state_dict() for mover in self.movers],
        }  # fmt: skip
        torch.save(state, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)

    def load(self, path: Path) -> None:
        """Go on where the file left off."""
        state = torch.load(path)
        self.step, self.cpu_s, self.chances.nats = state["step"], state["cpu_s"], state["nats"]
        self.stack.load_state_dict(state["weights"])
        for mover, kept in zip(self.movers, state["movers"], strict=True):
            mover.load_state_dict(kept)

    def take(self, rng: random.Random, tokenizer: Tokenizer) -> None:
        """One step."""
        for mover, full in zip(self.movers, (self.stage.rate, self.stage.rate * 0.3), strict=True):
            mover.param_groups[0]["lr"] = full * share(self.stage, self.step)
        rows = drawn(rng, self.chances, self.stage.rows, tokenizer)
        tokens = sum(len(ids) - prompt for ids, prompt, _ in rows)
        for ids, labels, cells in parts(rows):
            nats = answer_nats(self.stack, ids, labels)
            (nats.sum() / tokens).backward()
            self.chances.learn(cells, nats.tolist())
        torch.nn.utils.clip_grad_norm_(self.stack.parameters(), 1.0)
        for mover in self.movers:
            mover.step()
        self.stack.zero_grad()
        self.step += 1


def weights_of(path: Path) -> Stack:
    """The model of a checkpoint."""
    state = torch.load(path)
    stack = Stack(Shape(*state["shape"]))
    stack.load_state_dict(state["weights"])
    return stack


def begun(name: str, stage: Stage, work: Path, seed: int) -> Run:
    """The stage at its last checkpoint, or at its start."""
    torch.manual_seed(seed)
    before = Stack(stage.shape) if stage.shape else deepened(weights_of(work / f"{stage.start}.pt"), stage.copies)
    run = Run(stage, before)
    if (work / f"{name}.pt").exists():
        run.load(work / f"{name}.pt")
    return run


def train(name: str, stage: Stage, tokenizer: Tokenizer, work: Path, seed: int, show: bool) -> Run:
    """The stage to its end, with a checkpoint a minute. Each step draws by its own seed, so that it can be resumed."""
    run = begun(name, stage, work, seed)
    saved, cpu = time.monotonic(), time.process_time()
    with tqdm(total=stage.steps, initial=run.step, desc=name, disable=not show, unit="step", mininterval=5) as bar:
        while run.step < stage.steps:
            run.take(random.Random(f"{seed} {name} {run.step}"), tokenizer)
            bar.set_postfix_str(f"right about {run.chances.right():.3f}", refresh=False)
            bar.update()
            if time.monotonic() - saved > 60 or run.step == stage.steps:
                run.cpu_s, cpu = run.cpu_s + time.process_time() - cpu, time.process_time()
                run.save(work / f"{name}.pt")
                saved = time.monotonic()
    return run


def save(stack: Stack, tokenizer: Tokenizer, folder: Path) -> int:
    """Write the model as bfloat16 in the layout that vLLM loads. Returns the folder's size in bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    as_llama(stack, lexicon.END_ID).to(torch.bfloat16).save_pretrained(folder)
    # vLLM takes its default temperature from here.
    generation = {"eos_token_id": lexicon.END_ID, "pad_token_id": 0, "do_sample": False, "temperature": 0.0}
    (folder / "generation_config.json").write_text(json.dumps(generation, indent=2) + "\n")
    vocabulary.save(tokenizer, folder, stack.shape.context_tokens)
    return sum(path.stat().st_size for path in folder.iterdir())


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Train the zoo's three models, stage by stage; resumable.")
    parser.add_argument("--only", choices=tuple(STAGES), help="this stage alone (default: all, in order)")
    parser.add_argument("--steps", type=int, help="steps of each stage (default: its own)")
    parser.add_argument("--out", type=Path, default=HERE, help="folder for small/, middle/ and large/ (default: here)")
    parser.add_argument("--work", type=Path, default=WORK, help="folder for checkpoints (default: build/zoo)")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="no progress bar; print one JSON object")
    return parser.parse_args()


def main() -> None:
    """Train, save, report."""
    args = arguments()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    tokenizer = lexicon.build()
    report: dict[str, dict[str, float]] = {}
    for name in (args.only,) if args.only else STAGES:
        stage = STAGES[name]._replace(steps=args.steps or STAGES[name].steps)
        run = train(name, stage, tokenizer, args.work, args.seed, show=not args.json)
        report[name] = {"steps": run.step, "cpu_s": round(run.cpu_s), "right_about": round(run.chances.right(), 3)}
        if name in KEPT:
            report[name]["bytes"] = save(run.stack, tokenizer, args.out / name)
    print(json.dumps(report, indent=None if args.json else 2))


if __name__ == "__main__":
    main()
