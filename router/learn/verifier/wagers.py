"""Which two models the gains are measured on, and what was known of each prompt: from answers to a `gains.Pair`."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from router.learn.verifier import boundaries
from router.learn.verifier.answered import Answered
from router.learn.verifier.gains import Pair
from router.learn.verifier.learner import Learner
from router.learn.verifier.probe import Probed
from router.verify.evidence import CHARS_A_TOKEN
from router.verify.judged import Running

FEWEST = 100  #: prompts that both have a score on

Floats = npt.NDArray[np.float64]


def wager(
    known: Answered,
    learner: Learner,
    said: Floats,
    prior: Floats,
    dealt: npt.NDArray[np.int64],
    running: Mapping[str, Running],
    probes: Mapping[str, Probed],
    cost_ratio: float | None,
) -> tuple[str, Pair | None]:
    """What was measured, or why nothing can be. `said`, `prior`: log odds [answers], held out.

    The judged model that is right least often, against the model that is right most often on the same prompts.
    """
    small = min(known.models, key=lambda model: float(known.right[known.authors == known.models.index(model)].mean()))
    author = known.models.index(small)
    priors = learner.priors
    answers = np.flatnonzero((known.authors == author) & np.isfinite(said) & np.isfinite(prior))
    rows = priors.rows[answers]
    scores = priors.corpus.scores[rows]
    best = _best(priors.corpus.models, priors.corpus.column, scores, small)
    if best is None:
        return f"not measured: no other model has a score on {FEWEST} of the prompts that {small} answered", None
    column = priors.corpus.column(best)
    asked = np.isfinite(scores[:, column])
    answers, rows = answers[asked], rows[asked]
    costs = _costs(known, learner, answers, best, cost_ratio)
    if costs is None:
        return f"not measured: the tables tell no cost_usd of {small} and {best}, and there is no --cost-ratio", None
    kept = np.isfinite(costs).all(0)
    answers, rows, costs = answers[kept], rows[kept], costs[:, kept]
    if len(answers) < FEWEST or not 0 < costs[0].mean() < costs[1].mean():
        return f"not measured: {best} has no higher cost than {small} on {FEWEST} prompts", None
    at = running.get(small, Running())
    paths = boundaries.paths(
        [known.series[i] for i in answers], _tokens(known)[answers], learner.right[answers], prior[answers]
    )
    first = probes.get(small)
    own = np.flatnonzero(known.authors == author)
    large = priors.table((best,))[rows, 0]
    pair = Pair(
        small_right=learner.right[answers], large_right=priors.corpus.scores[rows, column].astype(np.float64),
        small_prior=_chance(prior[answers]), large_prior=_chance(large), small_cost=costs[0], large_cost=costs[1],
        small_tokens=_tokens(known)[answers],
        prompt_tokens=np.array([len(known.prompts[i].text) / CHARS_A_TOKEN for i in answers]),
        judged=_chance(said[answers]), knots=at.tokens, running=boundaries.held_chances(paths, dealt[answers], at),
        left=at.left, first=_chance(first.held[np.searchsorted(own, answers)]) if first is not None else None,
    )  # fmt: skip
    by = "cost_usd" if cost_ratio is None else f"a token of {best} as {cost_ratio:g} of {small}"
    return f"{small} and {best} on {len(answers)} prompts, costs by {by}", pair


def _best(models: tuple[str, ...], column: object, scores: npt.NDArray[np.float32], small: str) -> str | None:
    means = {}
    for model in models:
        values = scores[:, column(model)] if callable(column) else scores[:, 0]
        known = np.isfinite(values)
        if model != small and known.sum() >= FEWEST:
            means[model] = float(values[known].mean())
    return max(means, key=lambda model: means[model]) if means else None


def _costs(
    known: Answered, learner: Learner, answers: npt.NDArray[np.int64], best: str, ratio: float | None
) -> Floats | None:
    """[2, answers] of the judged model and the best; None where they are not known."""
    small = known.models[known.authors[answers[0]]] if len(answers) else ""
    tokens, dollars = (_cells(known, learner, answers, (small, best), key) for key in ("output_tokens", "cost_usd"))
    if ratio is None:
        return dollars if np.isfinite(dollars).any(axis=1).all() else None
    tokens[0] = _tokens(known)[answers]
    told = np.isfinite(tokens[1])
    tokens[1] = np.where(told, tokens[1], tokens[1][told].mean() if told.any() else tokens[0])
    return np.asarray(tokens * np.array([[1.0], [ratio]]))


def _cells(
    known: Answered, learner: Learner, answers: npt.NDArray[np.int64], models: tuple[str, str], key: str
) -> Floats:
    """[2, answers] of a measure of the tables; NaN: unknown."""
    out = np.full((2, len(answers)), np.nan)
    for table in known.outcomes:
        values = getattr(table, key)
        if values is None:
            continue
        place = {prompt.id: i for i, prompt in enumerate(table.prompts)}
        for k, model in enumerate(models):
            if model in table.models:
                column = table.models.index(model)
                for j, answer in enumerate(answers):
                    row = place.get(known.prompts[answer].id)
                    if row is not None and np.isfinite(values[row, column]):
                        out[k, j] = values[row, column]
    return out


def _tokens(known: Answered) -> Floats:
    tokens = known.lengths()
    told = np.isfinite(tokens)
    return np.where(told, tokens, tokens[told].mean() if told.any() else 1.0)


def _chance(log_odds: Floats) -> Floats:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * log_odds)))
