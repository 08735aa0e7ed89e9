"""Trains `rules`: hand-written rules get a weight per model, by a small logistic fit, or by their own points.

The rules come as an option (`--rules FILE` reads them from YAML or JSON); without any, `DEFAULT` stands.
"""

from pathlib import Path
from typing import Any, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import FORMAT, Metadata
from router.errors import ConfigError
from router.heads import Artefact
from router.heads.methods.labelled import log_odds
from router.heads.methods.rules import QueryRule, Rules
from router.learn import settings_text
from router.learn.data.corpus import Corpus, label_weights
from router.learn.fit.export import records
from router.learn.fit.logistic import sigmoid
from router.learn.fit.recipe import Recipe
from router.learn.routers.base import NONE, Columns, OnStep, Options, Rows
from router.learn.routers.labelled import means
from router.learn.routers.options import options_of, plain
from router.signals.text import CODE, FORMULAS

RIDGE = 20.0  #: labels' worth of belief that a rule's weights are what its points say
NEWTONS = 8

Floats = npt.NDArray[np.float32]

DEFAULT = (
    QueryRule(name="brief", points=-0.5, shorter=80),
    QueryRule(name="long", points=0.3, longer=800),
    QueryRule(name="very long", points=0.3, longer=3000),
    QueryRule(
        name="code",
        points=0.5,
        pattern=CODE,
    ),
    QueryRule(
        name="formulas",
        points=0.5,
        pattern=FORMULAS,
    ),
    QueryRule(name="sums", points=0.5, pattern=r"(?:\d[^\d]{1,200}){4}"),
    QueryRule(
        name="proof",
        points=0.7,
        words=("prove", "proof", "theorem", "lemma", "derive", "integral", "derivative", "eigenvalue", "homomorphism"),
    ),
    QueryRule(
        name="reasoning",
        points=0.4,
        words=(
            "why",
            "explain",
            "step by step",
            "compare",
            "analyse",
            "analyze",
            "argument",
            "infer",
            "best describes",
        ),
    ),
    QueryRule(name="negation", points=0.2, words=("not", "except", "never", "false", "incorrect", "least")),
    QueryRule(name="many parts", points=0.3, pattern=r"(?:\?[^?\n]*){3}|(?m:^[ \t]{0,9}(?:\d{1,3}[.)]|[-*]) .+\n){3}"),
    QueryRule(name="foreign script", points=0.5, foreign=0.3),
)


class RulesOptions(msgspec.Struct, frozen=True, kw_only=True):
    rules: tuple[QueryRule, ...] = DEFAULT
    learn: Literal["weights", "nothing"] = "weights"  #: nothing: the rules' points stand as they are


class RulesTrainer:
    """See `Trainer`."""

    def __init__(self, corpus: Corpus, recipe: Recipe, options: Options = NONE) -> None:
        self._options = options_of(RulesOptions, "rules", options)
        self._corpus = corpus
        queries = [((prompt.text, 1.0),) for prompt in corpus.prompts]
        self._matches = Rules(self._options.rules, "--router rules: rules").matches(queries)

    def steps(self) -> int:
        return 1

    def fit(self, rows: Rows, columns: Columns, on_step: OnStep = lambda: None) -> Artefact:
        found = means(self._corpus, rows, columns)
        weights = by_points(self._options.rules, found)
        bias = log_odds(found) - self._matches[rows].mean(0) @ weights
        if self._options.learn == "weights":
            bias, weights = fit(self._matches[rows], self._corpus.scores[rows][:, columns], bias, weights)
        on_step()
        meta = Metadata(
            format=FORMAT,
            models=records(self._corpus, columns),
            router="rules",
            options=plain(self._options),
        )
        return Artefact(meta=meta, arrays={"bias": bias, "weights": weights})


def rules_file(path: Path) -> list[Any]:
    """The rules of a YAML or JSON file: a list, or a mapping with the key `rules`. Raises ConfigError."""
    told = settings_text.of_file(path)
    rules = told.get("rules") if isinstance(told, dict) else told
    if not isinstance(rules, list):
        raise ConfigError(f"{path}: rules: expected a list of rules, got {type(rules).__name__}")
    return rules


def by_points(rules: tuple[QueryRule, ...], means: Floats) -> Floats:
    """[rules, models]: the weakest model by its mean loses a rule's points, the strongest none."""
    spread = float(means.max() - means.min())
    weakness = (means.max() - means) / spread if spread > 0 else np.zeros_like(means)
    points = np.array([rule.points for rule in rules], np.float32)
    return np.asarray(-points[:, None] * weakness, np.float32)


def fit(matches: Floats, scores: Floats, bias: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """Logistic regression per model of scores [prompts, models] (NaN: unknown) on matches [prompts, rules], held by a
    ridge to the given weights. Newton's method."""
    known = label_weights(scores, 0.0)
    x = np.concatenate([matches, np.ones((len(matches), 1), np.float32)], axis=1).astype(np.float64)
    ridge = np.diag([*[RIDGE] * matches.shape[1], 1e-3])
    out = np.concatenate([weights, bias[None]]).astype(np.float64)
    for model in range(scores.shape[1]):
        prior, at, weight = out[:, model].copy(), out[:, model].copy(), known[:, model].astype(np.float64)
        target = np.nan_to_num(scores[:, model]).astype(np.float64)
        for _ in range(NEWTONS):
            quality = sigmoid(x @ at)
            slope = x.T @ (weight * (quality - target)) + ridge @ (at - prior)
            at = at - np.linalg.solve(
                (x * (weight * np.maximum(quality * (1 - quality), 1e-3))[:, None]).T @ x + ridge, slope
            )
        out[:, model] = at
    return out[-1].astype(np.float32), out[:-1].astype(np.float32)
