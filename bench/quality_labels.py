"""The labels at hand for `bench/quality.py`: tables, columns, folds and held-out predictions, each made once."""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
import report

from router.learn.data import outcomes
from router.learn.data.corpus import Corpus, join
from router.learn.data.folds import by_group
from router.learn.evaluate import served
from router.learn.evaluate.evaluation import Pair, pair
from router.learn.fit.mf import Features
from router.learn.fit.recipe import Recipe
from router.learn.routers.mf import MfTrainer

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.bool_]
TABLES = ("routellm_pairs", "mmlu_pro", "llmrouter_9models")
ROUTELLM = ("mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview")
LLAMA = ("llama-3.1-8b-instruct", "llama-3.1-70b-instruct")
#: tasks whose questions are GSM8K's, in whatever table: `mgsm` holds translations of them
GSM8K = ("gsm8k", "agentverse-mgsm")


class Labels:
    """All tables as one corpus."""

    def __init__(self, data: Path, recipe: Recipe, folds: int) -> None:
        self.data, self.recipe, self.folds = data, recipe, folds
        self.tables = [outcomes.read(data / f"{name}.parquet") for name in TABLES]
        self.corpus = join(self.tables)
        tasks = self.corpus.tasks
        self.mmlu: Rows = np.char.startswith(tasks, "mmlu/")
        self.gsm8k: Rows = (tasks == "gsm8k") & (self.corpus.table == 0)
        self.any_gsm8k: Rows = np.isin(tasks, GSM8K)
        self.routellm: Pair = pair(self.corpus, *ROUTELLM, table=0)
        self.llama: Pair = pair(self.corpus, *LLAMA, table=1)
        self.grouped = by_group(self.corpus.prompts, folds)

    @cached_property
    def trainer(self) -> MfTrainer:
        return MfTrainer(self.corpus, self.recipe)

    @property
    def made(self) -> Features:
        return self.trainer.features

    @cached_property
    def logits(self) -> Floats:
        """[prompts, columns]: five grouped folds of all tables."""
        report.progress("held-out fits: grouped folds of all tables")
        return served.held_out(self.trainer, self.corpus, self.grouped)

    def fit_and_ask(self, train: Rows, test: Rows) -> Floats:
        """[tested prompts, columns]; NaN in columns without a label in training."""
        columns = np.flatnonzero(np.isfinite(self.corpus.scores[train]).any(axis=0))
        out = np.full((int(test.sum()), len(self.corpus.columns)), np.nan, np.float32)
        out[:, columns] = served.predict(served.fitted(self.trainer, train, columns), self.texts(test))
        return out

    def texts(self, rows: Rows) -> Sequence[str]:
        return [self.corpus.prompts[i].text for i in np.flatnonzero(rows)]


def only(corpus: Corpus, rows: Rows) -> Corpus:
    """Those prompts, all columns."""
    prompts = tuple(prompt for prompt, kept in zip(corpus.prompts, rows, strict=True) if kept)
    return Corpus(prompts, corpus.columns, corpus.scores[rows], corpus.table[rows])
