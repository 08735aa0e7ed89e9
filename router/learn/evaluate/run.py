"""Runs an evaluation: reads tables, splits prompts, fits and asks routers, computes the figures. Prints nothing."""

import datetime
import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn import routers
from router.learn.data.corpus import Corpus, join
from router.learn.data.outcomes import Outcomes, read
from router.learn.evaluate import beside, chosen, costs, learning, many, pairs, predict, results, splits
from router.learn.evaluate.caveats import caveats
from router.learn.evaluate.nearest import hint
from router.learn.evaluate.plan import Plan
from router.learn.evaluate.predict import Predicted, checkpoint_name, of_checkpoint, trained
from router.learn.fit import mf
from router.learn.routers.base import Trainer
from router.version import __version__

OnStage = Callable[[str, int], None]  #: what happens now, and in how many steps
OnStep = Callable[[], None]
VERSIONS = ("numpy", "scipy", "scikit-learn")


def run(plan: Plan, on_stage: OnStage = lambda name, steps: None, on_step: OnStep = lambda: None) -> results.Evaluation:
    """Raises ConfigError on bad input, before anything is trained."""
    return _Run(plan, on_stage, on_step).evaluation()


class _Run:
    """What is computed once and used by many."""

    def __init__(self, plan: Plan, on_stage: OnStage, on_step: OnStep) -> None:
        self._plan, self._on_stage, self._on_step = plan, on_stage, on_step
        _check_names(plan)
        self._tables = tuple(self._read(path) for path in plan.tables)
        self._names = [table.name for table in self._tables]
        self._corpus, cost_usd = _cut(plan, self._tables)
        self._protocol = _protocol(plan, self._corpus, self._names)
        seen = chosen.measured(self._corpus, self._protocol.tested, plan.models)
        self._duels = chosen.duels(seen, self._names, plan.pairs)
        expected = costs.expected(cost_usd, self._corpus, self._protocol.splits)
        tables = np.unique(self._corpus.table[self._protocol.tested]).tolist()
        cells = [many.cells(seen, table, self._names[table], cost_usd, expected) for table in tables]
        self._cells = [one for one in cells if len(one.models) > 2]
        self._unpaired = () if plan.pairs else chosen.unpaired(seen, self._names, self._duels)
        if not self._duels and not any(len(one.rows) for one in self._cells):
            raise ConfigError(f"nothing can be measured: {'; '.join(self._unpaired)}")

    def evaluation(self) -> results.Evaluation:
        plan, protocol = self._plan, self._protocol
        trainers = {name: self._trainer(name) for name in plan.routers}
        ours = [*(self._trained(name, trainer) for name, trainer in trainers.items()), *self._checkpoints()]
        self._on_stage("features of the baselines", 1)
        made = mf.features(self._corpus, plan.recipe)
        self._on_step()
        self._on_stage("baselines", 1)
        points = beside.points_of(made, plan.asked.seed)
        also = beside.of_tables(self._corpus, protocol.splits, points, plan.asked.seed)
        predicted = [*ours, *(one for one in also if one.name not in {own.name for own in ours})]
        self._on_step()
        measured = tuple(self._pair(duel, made, predicted) for duel in self._duels)
        tables = tuple(self._many(cells, predicted) for cells in self._cells if len(cells.rows))
        learnt = tuple(self._learning(trainers, ours)) if plan.learning_curve else ()
        return self._said(predicted, measured, tables, learnt)

    def _pair(self, duel: chosen.Duel, made: mf.Features, predicted: Sequence[Predicted]) -> results.Pair:
        self._on_stage(
            f"pair {self._corpus.columns[duel.at.weak].model}, {self._corpus.columns[duel.at.strong].model}", 1
        )
        preferred = pairs.preferences(predicted, duel.at)
        theirs = beside.routellm(self._corpus, self._protocol.splits, made, duel.at, self._plan.recipe)
        if np.isfinite(theirs).all():
            last = {name: preferred.pop(name) for name in (pairs.ORACLE,) if name in preferred}
            preferred |= {beside.ROUTELLM: theirs, **last}
        asked = self._plan.asked
        if not asked.against:
            asked = msgspec.structs.replace(asked, against=beside.ROUTELLM)
        name = self._names[duel.table]
        found = pairs.measured(self._corpus, name, duel.at, preferred, predicted, self._protocol.folds, asked)
        self._on_step()
        return found

    def _many(self, cells: many.Cells, predicted: Sequence[Predicted]) -> results.Many:
        self._on_stage(f"all models of {cells.table}", 1)
        found = many.measured(cells, predicted, self._plan.asked)
        self._on_step()
        return found

    def _learning(self, trainers: dict[str, Trainer], ours: Sequence[Predicted]) -> Iterator[results.Learnt]:
        plan, asked = self._plan, self._plan.asked
        named = {one.name: one for one in ours}
        fits = predict.fits(self._corpus, self._protocol.splits, plan.calibration)
        for name, trainer in trainers.items():
            for size in learning.sizes(self._corpus, self._protocol, plan.learning_curve):
                self._on_stage(f"{name} from {size} labels", trainer.steps() * fits)
                said = learning.of_size(
                    name, trainer, self._corpus, self._protocol, size, plan.calibration, asked.seed, self._on_step
                )
                yield from learning.figures(self._corpus, self._names, self._duels, self._cells, said, size, asked)
            yield from learning.figures(self._corpus, self._names, self._duels, self._cells, named[name], 0, asked)

    def _trainer(self, name: str) -> Trainer:
        self._on_stage(f"{name}: features", 1)
        trainer = routers.make(name, self._corpus, self._plan.recipe, self._plan.options.get(name, {}))
        self._on_step()
        return trainer

    def _trained(self, name: str, trainer: Trainer) -> Predicted:
        folds = self._protocol.splits
        fits = predict.fits(self._corpus, folds, self._plan.calibration)
        self._on_stage(f"{name}: {fits} held-out fits", trainer.steps() * fits)
        return trained(name, trainer, self._corpus, folds, self._plan.calibration, self._on_step)

    def _checkpoints(self) -> Iterator[Predicted]:
        digests = {table.sha256: table.name for table in self._tables}
        for path in self._plan.checkpoints:
            self._on_stage(f"checkpoint {path}", 1)
            yield of_checkpoint(path, self._corpus, self._protocol.tested, digests)
            self._on_step()

    def _read(self, path: Path) -> Outcomes:
        self._on_stage(f"read {path.name}", 1)
        table = read(path)
        self._on_step()
        return table

    def _said(
        self,
        predicted: Sequence[Predicted],
        measured: tuple[results.Pair, ...],
        tables: tuple[results.Many, ...],
        learnt: tuple[results.Learnt, ...],
    ) -> results.Evaluation:
        plan, protocol = self._plan, self._protocol
        tested = np.bincount(self._corpus.table[protocol.tested], minlength=len(self._tables)).tolist()
        return results.Evaluation(
            version=__version__, date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            command=plan.command, protocol=protocol.name, held_out=protocol.held_out, seed=plan.asked.seed,
            draws=plan.asked.draws, versions=_versions(), pairs=measured, many=tables, learning=learnt,
            tables=tuple(
                results.Table(t.name, t.sha256, t.rows, len(t.prompts), t.models, n)
                for t, n in zip(self._tables, tested, strict=True)
            ),
            routers=tuple(
                results.Router(p.name, p.kind, p.seconds, p.decision_us, p.batch_per_s, p.leaks, p.placed)
                for p in predicted
            ),
            caveats=caveats(
                predicted, measured, tables, costs.guessed(self._tables, plan.prices),
                [one.table for one in self._cells if not len(one.rows)], self._unpaired,
            ),
        )  # fmt: skip


def _check_names(plan: Plan) -> None:
    """Before anything is read."""
    if plan.learning_curve and not plan.routers:
        raise ConfigError("--learning-curve: expected a --router to train beside it")
    known = routers.names()
    for name in plan.routers:
        if name not in known:
            raise ConfigError(f"--router: expected one of {', '.join(known)}; got {name!r}{hint(name, known)}")
    contestants = (*plan.routers, *beside.NAMES, *map(checkpoint_name, plan.checkpoints))
    if plan.asked.against and plan.asked.against not in contestants:
        against = plan.asked.against
        raise ConfigError(
            f"--against: expected one of {', '.join(contestants)}; got {against!r}{hint(against, contestants)}"
        )


def _cut(plan: Plan, tables: Sequence[Outcomes]) -> tuple[Corpus, npt.NDArray[np.float64]]:
    """The corpus and each answer's cost, of as many prompts as are asked for."""
    corpus = join(tables)
    cost_usd = costs.of_cells(tables, corpus, plan.prices)
    if not plan.prompts:
        return corpus, cost_usd
    kept = chosen.some(corpus, plan.prompts, plan.asked.seed)
    return chosen.only(corpus, kept), cost_usd[kept]


def _protocol(plan: Plan, corpus: Corpus, names: Sequence[str]) -> splits.Protocol:
    seed = plan.asked.seed
    if plan.test_on:
        return splits.transfer(corpus, names, plan.train_on, plan.test_on, seed)
    if plan.leave_tasks_out:
        return splits.tasks_out(corpus, plan.folds, seed)
    return splits.grouped(corpus, plan.folds, seed)


def _versions() -> dict[str, str]:
    found = {name: importlib.metadata.version(name) for name in VERSIONS}
    return {"python": platform.python_version(), **found, "machine": platform.machine()}
