"""Describes tables of outcomes or battles and their faults: gaps, duplicates, leaks, labels that measure an answer's
format rather than the model. Prints nothing."""

import re
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.data import battles, outcomes, records
from router.learn.data.battles import Battles
from router.learn.data.outcomes import Outcomes, Prompt

OnStage = Callable[[str, int], None]
Doubles = npt.NDArray[np.float64]
ENOUGH = 30  #: labels of a model on a task before its mean is judged
FAR = 1.0  #: in log odds below what the task's and the model's other means make likely
SURE = 4.0  #: standard errors
_OPTION = re.compile(r"\n\s*\(?([A-J])[.):]\s")


class Model(msgspec.Struct, frozen=True):
    name: str
    prompts: int  #: labelled
    score: float  #: mean; of battles the share won, ties as a half


class Task(msgspec.Struct, frozen=True):
    """`scores[j]` is model j's mean; none where it has no label."""

    name: str
    prompts: int
    scores: tuple[float | None, ...]
    chance: float | None  #: of guessing, where the prompts list options


class Suspicious(msgspec.Struct, frozen=True):
    """A mean that says more of how answers were read than of the model."""

    model: str
    task: str
    prompts: int
    score: float
    expected: float  #: by the model's other tasks and the task's other models; or chance
    why: str


class Leak(msgspec.Struct, frozen=True):
    """Questions that stand on both sides."""

    one: str
    other: str
    groups: int
    prompts: int  #: of the first side, in these groups


class Table(msgspec.Struct, frozen=True, kw_only=True):
    path: str
    kind: str  #: outcomes or battles
    rows: int
    prompts: int
    groups: int
    models: tuple[Model, ...]
    tasks: tuple[Task, ...] = ()
    missing: int = 0  #: cells without a label
    repeated: int = 0  #: cells with several rows
    contradictions: int = 0  #: of these, those whose scores differ
    copies: int = 0  #: prompts whose text stands under another id too
    splits: dict[str, int] = {}  #: prompts
    leaks: tuple[Leak, ...] = ()  #: between its splits
    suspicious: tuple[Suspicious, ...] = ()
    measures: tuple[str, ...] = ()  #: that it tells of answers


class Description(msgspec.Struct, frozen=True):
    tables: tuple[Table, ...]
    leaks: tuple[Leak, ...]  #: between tables


def run(paths: Sequence[Path], on_stage: OnStage = lambda name, steps: None) -> Description:
    """Raises ConfigError for a broken row, by file and row."""
    tables, prompts = [], []
    for path in paths:
        on_stage(str(path), 0)
        table = battles.read(path) if _is_battles(path) else outcomes.read(path)
        tables.append(_of_battles(path, table) if isinstance(table, Battles) else of_outcomes(path, table))
        prompts.append(table.prompts)
    pairs = combinations(range(len(paths)), 2)
    leaks = (_leak(str(paths[i]), prompts[i], str(paths[j]), prompts[j]) for i, j in pairs)
    return Description(tuple(tables), tuple(leak for leak in leaks if leak.groups))


def of_outcomes(path: Path, table: Outcomes) -> Table:
    known = np.isfinite(table.scores)
    texts = Counter(prompt.text for prompt in table.prompts)
    tasks = _tasks(table)
    return Table(
        path=str(path), kind="outcomes", rows=table.rows, prompts=len(table.prompts), groups=_groups(table.prompts),
        models=tuple(
            Model(name, int(known[:, j].sum()), _round(float(np.nanmean(table.scores[:, j]))))
            for j, name in enumerate(table.models)
        ),
        tasks=tasks, missing=int((~known).sum()),
        repeated=0 if table.answers is None else int((table.answers > 1).sum()),
        contradictions=table.contradictions, copies=sum(count - 1 for count in texts.values()),
        splits=dict(Counter(split for own in table.splits for split in own)), leaks=tuple(_split_leaks(table)),
        suspicious=tuple(_suspicious(table, tasks)),
        measures=tuple(key for key in outcomes.MEASURES if getattr(table, key) is not None),
    )  # fmt: skip


def _of_battles(path: Path, table: Battles) -> Table:
    met = np.concatenate([table.a, table.b])
    won = np.concatenate([table.outcome, 1 - table.outcome])
    count, total = np.bincount(met, minlength=len(table.models)), np.bincount(met, won, minlength=len(table.models))
    texts = Counter(prompt.text for prompt in table.prompts)
    return Table(
        path=str(path), kind="battles", rows=len(table.a), prompts=len(table.prompts), groups=_groups(table.prompts),
        models=tuple(
            Model(name, int(n), _round(float(w / n))) for name, n, w in zip(table.models, count, total, strict=True)
        ),
        copies=sum(n - 1 for n in texts.values()),
    )  # fmt: skip


def _is_battles(path: Path) -> bool:
    """By the first row that can be read; what cannot be read is for the reader to refuse."""
    kind = records.kind_of(path)
    if kind not in ("parquet", "jsonl"):
        return False
    first = next((record for record in records.read(path, kind) if not record.broken), None)
    return first is not None and "winner" in first.values and "score" not in first.values


def _tasks(table: Outcomes) -> tuple[Task, ...]:
    names = np.array([prompt.task for prompt in table.prompts])
    out = []
    for name in sorted(set(names.tolist())):
        rows = np.flatnonzero(names == name)
        means = _means(table.scores[rows])
        scores = tuple(None if np.isnan(mean) else _round(mean) for mean in means.tolist())
        out.append(Task(name, len(rows), scores, _chance([table.prompts[i].text for i in rows])))
    return tuple(out)


def _means(scores: npt.NDArray[np.float32]) -> Doubles:
    known = np.isfinite(scores)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, scores, 0).sum(0, dtype=np.float64) / known.sum(0))


def _chance(texts: Sequence[str]) -> float | None:
    """What guessing scores, where nine prompts in ten list options."""
    options = np.array([len(set(_OPTION.findall(text))) for text in texts])
    listed = options[options >= 2]
    return _round(float((1 / listed).mean())) if len(listed) >= 0.9 * len(texts) else None


def _suspicious(table: Outcomes, tasks: Sequence[Task]) -> list[Suspicious]:
    names = np.array([prompt.task for prompt in table.prompts])
    count = np.array([np.isfinite(table.scores[names == task.name]).sum(0) for task in tasks])
    mean = np.array([[np.nan if score is None else score for score in task.scores] for task in tasks])
    expected = _expected(np.where(count >= ENOUGH, mean, np.nan), count)
    out = []
    for i, j in np.argwhere(count >= ENOUGH):
        found = float(mean[i, j]), int(count[i, j])
        chance = tasks[i].chance
        if chance is not None and _below(*found, chance):
            out.append(_named(table, tasks[i], j, found, chance, "below chance"))
        elif _below(*found, expected[i, j]) and _log_odds(*found) < _log_odds(expected[i, j], found[1]) - FAR:
            out.append(_named(table, tasks[i], j, found, float(expected[i, j]), "far below its neighbours"))
    return sorted(out, key=lambda one: one.score - one.expected)


def _named(table: Outcomes, task: Task, j: int, found: tuple[float, int], expected: float, why: str) -> Suspicious:
    return Suspicious(table.models[j], task.name, found[1], found[0], _round(expected), why)


def _expected(mean: Doubles, count: npt.NDArray[np.int64]) -> Doubles:
    """[tasks, models]: what a task's and a model's effect on the log odds make likely, by Tukey's median polish, which
    a few wrong cells do not move. NaN where there are fewer than three to compare with on either side."""
    z = np.where(np.isfinite(mean), _log_odds(mean, np.maximum(count, 1)), np.nan)
    if (np.isfinite(z).sum(1) >= 3).sum() < 3:
        return np.full(mean.shape, np.nan)
    rest = z.copy()
    for _ in range(10):
        rest = rest - _medians(rest, 1)
        rest = rest - _medians(rest, 0)
    return np.asarray(0.5 * (1 + np.tanh(0.5 * (z - rest))))


def _medians(values: Doubles, axis: int) -> Doubles:
    known = np.isfinite(values).any(axis, keepdims=True)
    return np.asarray(np.nan_to_num(np.nanmedian(np.where(known, values, 0.0), axis, keepdims=True)))


def _log_odds(mean: Doubles | float, count: npt.NDArray[np.int64] | int) -> Doubles:
    """Kept finite by half a label on either side."""
    p = (np.asarray(mean) * count + 0.5) / (np.asarray(count) + 1)
    return np.asarray(np.log(p / (1 - p)))


def _below(mean: float, count: int, expected: float) -> bool:
    spread = max(expected * (1 - expected), 1e-4) / count
    return bool((expected - mean) > SURE * spread**0.5)


def _split_leaks(table: Outcomes) -> list[Leak]:
    names = sorted({split for own in table.splits for split in own})
    sides = {
        name: [prompt for prompt, own in zip(table.prompts, table.splits, strict=True) if name in own] for name in names
    }
    leaks = [_leak(one, sides[one], other, sides[other]) for one, other in combinations(names, 2)]
    return [leak for leak in leaks if leak.groups]


def _leak(one: str, prompts: Sequence[Prompt], other: str, others: Sequence[Prompt]) -> Leak:
    """Groups of both; a text that stands in both is one too, whatever its groups are called."""
    groups = {prompt.group for prompt in others}
    texts = {prompt.text for prompt in others}
    shared = [prompt for prompt in prompts if prompt.group in groups or prompt.text in texts]
    return Leak(one, other, len({prompt.group for prompt in shared}), len(shared))


def _groups(prompts: Sequence[Prompt]) -> int:
    return len({prompt.group for prompt in prompts})


def _round(number: float) -> float:
    return round(number, 4)
