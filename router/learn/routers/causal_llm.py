"""Fits what a judge's verdicts from 1 to 5 mean for each reference model. The judge itself is not trained.

Verdicts come through the code that serves (`router.pipeline.judge`), one request for each prompt, and are kept in a
file, so that no prompt is judged twice.
"""

import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import FORMAT, Array, Artefact, Metadata
from router.errors import ConfigError
from router.heads.methods.causal_llm import Question, key_of
from router.learn.data.corpus import Corpus, family_weights, label_weights
from router.learn.fit.export import records
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Columns, OnStep, Options, Rows
from router.learn.routers.options import options_of
from router.learn.routers.ticks import TICKS, Ticks
from router.learn.routers.verdicts import JudgeOptions, collect, question_of

#: What a model without labels is taken to be: a point of the verdict is half a unit of log odds.
SLOPE = 0.5
RIDGE = 1.0  #: how many labels' worth of curvature hold the line to that, and to the model's strength
NEWTONS = 30

Floats = npt.NDArray[np.float32]


class CausalLlmTrainer:
    """See `Trainer`. The first fit asks the judge of every prompt of the corpus; no label goes into that."""

    def __init__(self, corpus: Corpus, recipe: Recipe, options: Options = NONE) -> None:
        self._corpus, self._recipe = corpus, recipe
        self._options = options_of(JudgeOptions, "causal_llm", options)
        if not self._options.judge:
            raise ConfigError("--router causal_llm: option judge: expected the judge's URL or the path of its weights")
        question_of(self._options)
        self._verdicts: Floats | None = None  #: [prompts]; NaN where the judge gave none

    def steps(self) -> int:
        return TICKS

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        texts = [prompt.text for prompt in self._corpus.prompts]
        ticks = Ticks(len(texts), on_step)
        if self._verdicts is None:
            self._verdicts = collect(texts, self._options, lambda: ticks.add(1))
        heard = rows & np.isfinite(self._verdicts)
        if not heard.any():
            raise ConfigError(f"--router causal_llm: {self._options.judge} gave no verdict on any training prompt")
        unasked = float(self._verdicts[heard].mean(dtype=np.float64))
        question = question_of(self._options, unasked)
        models = records(self._corpus, columns)
        lines = self._lines(heard, columns, unasked, [0.5 if m.strength is None else m.strength for m in models])
        ticks.finish()
        meta = Metadata(format=FORMAT, models=models, router="causal_llm", options=_plain(question))
        return Artefact(
            meta=meta, arrays={"bias": lines[:, 0].copy(), "slope": lines[:, 1].copy(), **self._known(texts)}
        )

    def _lines(self, heard: Rows, columns: Columns, unasked: float, strengths: list[float]) -> Floats:
        """[models, 2]: bias and slope."""
        assert self._verdicts is not None
        above = self._verdicts[heard].astype(np.float64) - unasked
        scores = self._corpus.scores[np.ix_(heard, columns)]
        weights = label_weights(scores, self._recipe.alike)
        weights *= family_weights(self._corpus.tasks[heard], self._recipe.balance)[:, None]
        known = np.nan_to_num(scores)
        fitted = [line(above, known[:, j], weights[:, j], strength) for j, strength in enumerate(strengths)]
        return np.array(fitted, np.float32)

    def _known(self, texts: list[str]) -> dict[str, Array]:
        """The verdicts themselves: the head scores these prompts without a judge, in evaluation too."""
        assert self._verdicts is not None
        heard = np.isfinite(self._verdicts)
        found = {key_of(text): value for text, value, ok in zip(texts, self._verdicts, heard, strict=True) if ok}
        return {
            "known.key": np.array(list(found), np.uint64),
            "known.verdict": np.array(list(found.values()), np.float32),
        }


def line(above: npt.NDArray[np.float64], scores: Floats, weights: Floats, strength: float) -> tuple[float, float]:
    """Bias and slope of `logit q = bias + slope * above` by weighted log loss; the slope is never below 0.

    Without labels: the strength's log odds, and SLOPE.
    """
    strength = min(max(strength, 0.02), 0.98)
    prior = np.array([np.log(strength / (1 - strength)), SLOPE])
    x = np.stack([np.ones_like(above), above], axis=1)
    at, free = prior.copy(), np.array([True, True])
    for _ in range(NEWTONS):
        quality = 0.5 * (1 + np.tanh(0.5 * (x @ at)))
        slope = x.T @ (weights * (quality - scores)) + RIDGE * (at - prior)
        curve = (x * (weights * np.maximum(quality * (1 - quality), 0.01))[:, None]).T @ x + RIDGE * np.eye(2)
        at[free] -= np.linalg.solve(curve[np.ix_(free, free)], slope[free])
        if at[1] < 0:  # more faith of the judge may not mean less quality: the model's mean is all that is left
            at[1], free = 0.0, np.array([True, False])
    return float(at[0]), float(at[1])


def _plain(question: Question) -> dict[str, object]:
    import msgspec

    return dict(msgspec.to_builtins(question))
