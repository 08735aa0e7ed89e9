"""`headgate train` without the command line: tables in, checkpoint and held-out figures out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.heads import NEVER_SERVED, Artefact, write
from router.learn import output, routers
from router.learn.data import battles, records
from router.learn.data.battles import Battles
from router.learn.data.corpus import Corpus, join
from router.learn.data.folds import by_group
from router.learn.data.outcomes import Outcomes, read
from router.learn.evaluate import served
from router.learn.evaluate.evaluation import Figures, Pair, figures, no_pair, pair, preference, widest_pair
from router.learn.fit.calibration import Method, calibrated
from router.learn.fit.export import signed, spoken_for
from router.learn.fit.lengths import HeldLength, logs_of
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Options, SelfHeldOut, TellsLengths, Trainer

OnStage = Callable[[str, int], None]  #: what happens now, and in how many steps
OnStep = Callable[[], None]
Floats = npt.NDArray[np.float32]


class Held(msgspec.Struct, frozen=True):
    """Figures of one pair, of prompts that its fit did not see."""

    table: str
    weak: str
    strong: str
    figures: Figures


class Report(msgspec.Struct, frozen=True):
    """What training made."""

    out: str
    bytes: int
    prompts: int
    models: tuple[str, ...]
    held_out: tuple[Held, ...]
    router: str = "mf"
    unmeasured: tuple[str, ...] = ()  #: tables without a pair whose figures could be told, and why
    lengths: tuple[HeldLength, ...] = ()  #: of models whose answers' lengths the tables tell


def run(
    paths: Sequence[Path],
    out: Path,
    recipe: Recipe,
    *,
    router: str = "mf",
    options: Options = NONE,
    folds: int = 5,
    pairs: Sequence[tuple[str, str]] = (),
    calibration: Method = "platt",
    command: str = "",
    on_stage: OnStage = lambda name, steps: None,
    on_step: OnStep = lambda: None,
) -> Report:
    """Reads the tables, measures on held-out folds, fits on all prompts, calibrates by the held-out logits, writes.
    Raises ConfigError on bad input. `router` and its `options`: a method of `router.learn.routers`."""
    if router in NEVER_SERVED:
        raise ConfigError(f"--router {router}: it knows the answers, so there is nothing to train: for evaluation only")
    output.check("--out", out, paths)
    found = [_read(path, on_stage, on_step) for path in paths]
    tables = tuple(table for table in found if isinstance(table, Outcomes))
    fought = tuple(table for table in found if isinstance(table, Battles))
    if fought and router not in routers.OF_BATTLES:
        raise ConfigError(
            f"--router {router}: {fought[0].name}: expected scores, got battles; "
            f"{', '.join(sorted(routers.OF_BATTLES))} learns from them as they are, any other from "
            "`headgate data import --as-scores`"
        )
    corpus = join(tables, fought)
    _check(corpus)
    widest = [widest_pair(corpus, table) for table in range(0 if pairs else len(tables))]
    chosen = [pair(corpus, *names) for names in pairs] + [at for at in widest if at is not None]
    without = tuple(f"{tables[i].name}: {no_pair(corpus, i)}" for i, at in enumerate(widest) if at is None)
    held = by_group(corpus.prompts, folds, recipe.seed)
    if len(np.unique(held)) < folds:
        raise ConfigError(f"--folds: {folds} folds need more questions than {len({p.group for p in corpus.prompts})}")
    on_stage("features", 1)
    trainer = routers.make(router, corpus, recipe, options)
    on_step()
    on_stage(f"{folds} held-out fits", folds * trainer.steps())
    logits = _held_out(trainer, corpus, held, on_step)
    measured = tuple(_measure(tables, corpus, logits, at) for at in chosen)
    on_stage("fit on all prompts", trainer.steps())
    columns = spoken_for(corpus)
    trained = served.fitted(trainer, np.ones(len(corpus.prompts), bool), columns, on_step)
    method: Method = "none" if router in routers.UNCALIBRATED else calibration
    told = calibrated(trained, logits[:, columns], corpus.scores[:, columns], method)
    told, lengths = _with_lengths(trainer, told, tables, corpus, held, recipe, on_stage, on_step)
    shown = {_key(one): round(one.figures.apgr, 4) for one in measured}
    shown |= {f"{one.model}:output_tokens:error": round(one.error, 4) for one in lengths if one.kept}
    write(out, signed(told, found, command, shown))
    return Report(
        records.told(out), out.stat().st_size, len(corpus.prompts), corpus.models, measured, router, without, lengths
    )


def _read(path: Path, on_stage: OnStage, on_step: OnStep) -> Outcomes | Battles:
    on_stage(f"read {path.name}", 1)
    table = battles.read(path) if battles.is_battles(path) else read(path)
    on_step()
    return table


def _check(corpus: Corpus) -> None:
    """Raises ConfigError where there is nothing to learn, whatever the method."""
    if len(corpus.models) < 2:
        raise ConfigError(f"expected at least two models to route between, got {corpus.models[0]!r} only")
    scores = corpus.scores[np.isfinite(corpus.scores)]
    if corpus.battles is None and np.ptp(scores) == 0:
        raise ConfigError(
            f"expected scores that differ, got {float(scores[0]):g} for every answer: nothing tells the models apart, "
            "or the prompts"
        )


def _held_out(trainer: Trainer, corpus: Corpus, folds: npt.NDArray[np.int64], on_step: OnStep) -> Floats:
    if isinstance(trainer, SelfHeldOut):
        return trainer.held_out(folds, on_step)
    return served.held_out(trainer, corpus, folds, on_step)


def _with_lengths(
    trainer: Trainer, made: Artefact, tables: Sequence[Outcomes], corpus: Corpus, folds: npt.NDArray[np.int64],
    recipe: Recipe, on_stage: OnStage, on_step: OnStep,
) -> tuple[Artefact, tuple[HeldLength, ...]]:  # fmt: skip
    logs = logs_of(tables, corpus)
    if not isinstance(trainer, TellsLengths) or not np.isfinite(logs).any():
        return made, ()
    on_stage("output tokens", recipe.steps * (int(folds.max()) + 2) * max(1, len(tables)))
    return trainer.with_lengths(made, logs, folds, on_step)


def _measure(tables: Sequence[Outcomes], corpus: Corpus, logits: Floats, at: Pair) -> Held:
    weak, strong = corpus.columns[at.weak], corpus.columns[at.strong]
    result = figures(corpus, at, preference(logits, at))
    return Held(tables[weak.table].name, weak.model, strong.model, result)


def _key(held: Held) -> str:
    return f"{held.table}:{held.weak}->{held.strong}:apgr"
