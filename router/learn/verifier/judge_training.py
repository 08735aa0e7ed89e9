"""All of a judge from answers: curves, running answers, probes, spreads and gains, with the figures that say what each
is worth where it has not learnt."""

from collections.abc import Callable, Mapping

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.data.folds import by_group
from router.learn.evaluate import metrics
from router.learn.evaluate.metrics_calibration import ece, equal_mass
from router.learn.verifier import boundaries, gains, probe
from router.learn.verifier.answered import Answered
from router.learn.verifier.auroc import auc, least_lead
from router.learn.verifier.learner import Learner, Learnt, both, kind_names
from router.learn.verifier.spread import correlation, spread
from router.learn.verifier.wagers import wager
from router.verify import judged, stated
from router.verify.judged import OTHERS, Gain, Running

Floats = npt.NDArray[np.float64]
Masks = list[npt.NDArray[np.bool_]]


class Beside(msgspec.Struct, frozen=True, kw_only=True):
    """AUROC, 0.5: chance. None: not known of all these answers."""

    answers: int
    judge: float
    length: float | None = None
    mean_logprob: float | None = None
    least_logprob: float | None = None
    prior: float | None = None  #: of the text alone
    lead: float  #: of the judge over the best of length, mean and least log-probability


class Probed(msgspec.Struct, frozen=True, kw_only=True):
    """AUROC held out, of the prior alone and with the first token's logits."""

    prior: float
    probe: float
    used: bool


class JudgeReport(msgspec.Struct, frozen=True, kw_only=True):
    """What was learnt, and how good it is on answers that it did not learn from."""

    in_domain: Beside
    left_out: Beside | None  #: all kinds together, each left out of the learning in turn; None: there is one kind only
    kinds: dict[str, Beside]  #: each kind that was left out
    brier: float  #: in domain
    base_brier: float
    ece: float
    experts: dict[str, float]
    running: dict[str, str]  #: the statistic by which each model's running answers are judged
    probes: dict[str, Probed]
    spreads: dict[str, float]
    correlation: float
    gains: dict[str, Gain]
    measured: str  #: on what, or why not


class MadeJudge(msgspec.Struct, frozen=True):
    """For the artefact: `options.judge`, and its tensors."""

    options: judged.Learnt
    arrays: Mapping[str, npt.NDArray[np.generic]]
    report: JudgeReport


def steps(known: Answered, folds: int) -> int:
    """How often `on_step` is called."""
    return folds + len(kind_names(known.prompts)) + 2


def make_judge(
    known: Answered,
    folds: int,
    seed: int = 0,
    cost_ratio: float | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> MadeJudge:
    """`cost_ratio`: what a token of the better model costs in tokens of the judged one, where the tables tell no costs;
    without either no gain is measured, and every way but `before` is off."""
    learner = Learner(known, seed)
    every = np.ones(len(known.right), bool)
    learnt, _ = learner.learn(every)
    on_step()
    dealt = by_group(known.prompts, folds, seed)
    inside = _said(learner, [dealt == fold for fold in range(folds)], on_step)
    names = kind_names(known.prompts)
    masks = [learner.kinds == kind for kind in names]
    outside = _said(learner, masks, on_step) if len(masks) > 1 else np.full(len(every), np.nan)
    prior = learner.priors.whole()
    running = _running(known, learner, prior, dealt)
    probes = _probes(known, learner, prior, dealt)
    spreads, alike = _spreads(known, inside, prior)
    measured, told = wager(known, learner, inside, prior, dealt, running, probes, cost_ratio)
    found = gains.gains(told, seed) if told is not None else {}
    on_step()
    options = judged.Learnt(
        numbers=_used(learnt), experts=dict(learnt.shares), running=running, spreads=spreads, correlation=alike,
        gains=found, measured=measured if told is not None else "",
        probed=tuple(model for model, one in probes.items() if one.gains),
    )  # fmt: skip
    right = known.right
    report = JudgeReport(
        in_domain=_beside(learner, inside, every, prior),
        left_out=_beside(learner, outside, np.isfinite(outside)) if len(masks) > 1 else None,
        kinds={
            name: _beside(learner, outside, mask)
            for name, mask in zip(names.values(), masks, strict=True)
            if len(masks) > 1 and both(learner.right[mask])
        },
        brier=metrics.brier(right, _quality(inside)),
        base_brier=metrics.brier(right, np.full_like(right, right.mean())),
        ece=ece(equal_mass(right, _quality(inside))), experts=dict(learnt.shares),
        running={model: one.statistic for model, one in running.items() if one.tokens},
        probes={m: Probed(prior=one.prior_auroc, probe=one.auroc, used=one.gains) for m, one in probes.items()},
        spreads=spreads, correlation=alike, gains=found, measured=measured,
    )  # fmt: skip
    return MadeJudge(options, _arrays(known, learner, learnt, probes), report)


def _said(learner: Learner, masks: Masks, on_step: Callable[[], None]) -> Floats:
    """Log odds [answers], each mask by what was learnt of the rest."""
    out = np.full(len(learner.right), np.nan)
    for mask in masks:
        if mask.any() and not mask.all():
            out[mask] = learner.learn(~mask, [mask])[1][0][mask]
        on_step()
    return out


def _beside(learner: Learner, said: Floats, mask: npt.NDArray[np.bool_], prior: Floats | None = None) -> Beside:
    right, alone = learner.right[mask], learner.alone.of(mask)
    areas = {name: auc(right, score) for name, score in alone.items()}
    before = auc(right, prior[mask]) if prior is not None and np.isfinite(prior[mask]).all() else None
    return Beside(
        answers=int(mask.sum()), judge=auc(right, said[mask]), prior=before,
        lead=least_lead(right, said[mask], alone), **areas,
    )  # fmt: skip


def _parts(known: Answered) -> dict[str, npt.NDArray[np.bool_]]:
    return {name: known.authors == author for author, name in enumerate(known.models)}


def _running(known: Answered, learner: Learner, prior: Floats, dealt: npt.NDArray[np.int64]) -> dict[str, Running]:
    """Of each model with enough answers, and of all others by all answers."""
    tokens = known.lengths()
    out = {}
    for model, mask in (*_parts(known).items(), (OTHERS, np.ones(len(tokens), bool))):
        rows = np.flatnonzero(mask & np.isfinite(tokens) & np.isfinite(prior))
        at = boundaries.paths([known.series[i] for i in rows], tokens[rows], learner.right[rows], prior[rows])
        found = boundaries.running(at, dealt[rows])
        if found.tokens or model == OTHERS:
            out[model] = found
    return out


def _probes(known: Answered, learner: Learner, prior: Floats, dealt: npt.NDArray[np.int64]) -> dict[str, probe.Probed]:
    """None where the tables do not say which tokens' logits they have: no engine could be asked for them."""
    out = {}
    for model, mask in _parts(known).items() if known.first_ids else ():
        rows = np.flatnonzero(mask)
        if all(len(known.first[i]) == len(known.first_ids) for i in rows):
            found = probe.probed([known.first[i] for i in rows], learner.right[rows], prior[rows], dealt[rows])
            if found is not None:
                out[model] = found
    return out


def _spreads(known: Answered, said: Floats, prior: Floats) -> tuple[dict[str, float], float]:
    """Of each model and all others; and the correlation, on the prompts that several models answered."""
    before, after = _quality(prior).astype(np.float64), _quality(said).astype(np.float64)
    right = known.right.astype(np.float64)
    found = {model: spread(before[mask], after[mask], right[mask]) for model, mask in _parts(known).items()}
    spreads = {model: value for model, value in found.items() if value == value}
    whole = spread(before, after, right)
    spreads[OTHERS] = whole if whole == whole else stated.SPREAD
    columns: dict[str, dict[str, tuple[float, float]]] = {}
    for i, prompt in enumerate(known.prompts):
        columns.setdefault(known.models[known.authors[i]], {})[prompt.id] = (before[i], after[i])
    pairs = []
    for one in columns:
        for other in columns:
            both_have = [id_ for id_ in columns[one] if id_ in columns[other]]
            if one != other and both_have and spreads.get(other, 0) > 0:
                a = np.array([columns[one][id_] for id_ in both_have])
                b = np.array([columns[other][id_] for id_ in both_have])
                pairs.append(correlation(a[:, 0], a[:, 1], b[:, 0], b[:, 1], spreads[other]))
    told = [value for value in pairs if value == value]
    return spreads, float(np.mean(told)) if told else stated.CORRELATION


def _quality(log_odds: Floats) -> npt.NDArray[np.float32]:
    return np.asarray(0.5 * (1 + np.tanh(0.5 * log_odds)), np.float32)


def _used(learnt: Learnt) -> tuple[str, ...]:
    from router.verify.observed import OBSERVED

    return tuple(name for k, name in enumerate(OBSERVED) if learnt.model.curve[k].any() or learnt.model.unknown[k])


def _arrays(
    known: Answered, learner: Learner, learnt: Learnt, probes: Mapping[str, probe.Probed]
) -> dict[str, npt.NDArray[np.generic]]:
    from router.verify.observed import OBSERVED

    model, kept = learnt.model, [OBSERVED.index(name) for name in _used(learnt)]
    arrays = {
        "judge.centre": model.centre[kept], "judge.scale": model.scale[kept], "judge.unknown": model.unknown[kept],
        "judge.curve": model.curve[kept], "judge.bias": np.array([model.bias]),
        "judge.models": np.concatenate([learnt.lines, np.array(learner.typical)[:, None]], axis=1),
    }  # fmt: skip
    used = [one.probe for one in probes.values() if one.gains]
    if used:
        arrays["first.weights"] = np.stack([one.weights for one in used])
        arrays["first.line"] = np.array([[one.bias, one.prior] for one in used])
    out: dict[str, npt.NDArray[np.generic]] = {
        name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()
    }
    if used:
        out["first.ids"] = np.array(known.first_ids, np.int32)
    return out
