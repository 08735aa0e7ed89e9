"""Learning curves: the same figures from parts of the labels. Knows no method."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from router.learn.data.corpus import Corpus
from router.learn.evaluate import metrics, results
from router.learn.evaluate.chosen import Duel
from router.learn.evaluate.evaluation import labels
from router.learn.evaluate.many import Cells, accuracy
from router.learn.evaluate.pairs import Asked, preferences
from router.learn.evaluate.predict import Predicted, trained
from router.learn.evaluate.splits import Protocol, Split, cut
from router.learn.fit.calibration import Method
from router.learn.routers.base import Trainer

OnStep = Callable[[], None]


def sizes(corpus: Corpus, protocol: Protocol, asked: Sequence[int]) -> tuple[int, ...]:
    """Those of which some table has more labelled training prompts."""
    most = max(int(np.bincount(corpus.table[split.train]).max()) for split in protocol.splits)
    return tuple(size for size in sorted(set(asked)) if size < most)


def of_size(
    name: str,
    trainer: Trainer,
    corpus: Corpus,
    protocol: Protocol,
    size: int,
    calibration: Method,
    seed: int,
    on_step: OnStep = lambda: None,
) -> Predicted:
    """Trained on `size` prompts of each table."""
    parts: list[Split] = [cut(corpus, split, size, seed) for split in protocol.splits]
    return trained(name, trainer, corpus, parts, calibration, on_step)


def figures(
    corpus: Corpus,
    names: Sequence[str],
    duels: Sequence[Duel],
    tables: Sequence[Cells],
    said: Predicted,
    size: int,
    asked: Asked,
) -> Iterator[results.Learnt]:
    """APGR of each pair, and accuracy over the models of each larger table, of what a router said. `size` 0: all."""
    for duel in duels:
        gain = preferences([said], duel.at).get(said.name)
        if gain is not None:
            weak, strong = labels(corpus, duel.at)
            spread = metrics.interval(metrics.bootstrap(weak, strong, [gain], asked.draws, asked.seed)[:, 0])
            models = " -> ".join(corpus.columns[i].model for i in (duel.at.weak, duel.at.strong))
            apgr = metrics.curve(weak, strong, gain).apgr
            yield results.Learnt(said.name, names[duel.table], models, "apgr", size, apgr, spread.low, spread.high)
    for cells in tables:
        found = accuracy(cells, said, asked)
        if found is not None:
            mean, spread = found
            models = f"all {len(cells.models)} models"
            yield results.Learnt(said.name, cells.table, models, "accuracy", size, mean, spread.low, spread.high)
