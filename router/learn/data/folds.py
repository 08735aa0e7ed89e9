"""Assigns prompts to folds. All wordings of one question, in any table, are in the same fold."""

import hashlib
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from router.learn.data.outcomes import Prompt


def by_group(prompts: Sequence[Prompt], folds: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """A fold per prompt, by its group's hash: the same for a question in every table, and on every machine."""
    return np.array([_hash(f"{seed}:{prompt.group}") % folds for prompt in prompts])


def by_task(prompts: Sequence[Prompt], folds: int, seed: int = 0) -> npt.NDArray[np.int64]:
    """A fold per prompt such that whole tasks are held out; tasks are dealt out in the order of their hashes."""
    tasks = sorted({prompt.task for prompt in prompts}, key=lambda task: (_hash(f"{seed}:{task}"), task))
    fold = {task: i % folds for i, task in enumerate(tasks)}
    return np.array([fold[prompt.task] for prompt in prompts])


def training_rows(prompts: Sequence[Prompt], held_out: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The prompts that may be trained on: not held out, and no question of theirs is, in any table."""
    groups = {prompt.group for prompt, out in zip(prompts, held_out, strict=True) if out}
    return np.array([prompt.group not in groups for prompt in prompts])


def waits(prompts: Sequence[Prompt], seed: int = 0) -> npt.NDArray[np.uint64]:
    """[prompts]: an order to draw them in, by their groups' hashes; the same in every table."""
    return np.array([_hash(f"{seed}:draw:{prompt.group}") for prompt in prompts], np.uint64)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "big")
