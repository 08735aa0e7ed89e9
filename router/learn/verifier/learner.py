"""From answers to a calibrated judge: numbers, priors, the experts' shares. What is held out stays out of all of it."""

import itertools
from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.data.folds import by_group
from router.learn.data.outcomes import Prompt
from router.learn.verifier.additive import EXPERTS, SHARES, Additive, fit, line, mean
from router.learn.verifier.answered import Answered
from router.learn.verifier.auroc import alone, auc, least_lead
from router.learn.verifier.priors import Priors
from router.verify.observed import OBSERVED, observed

INNER = 4  #: folds that choose the shares and calibrate
MOST_KINDS = 5  #: of tasks that are left out in turn; more are dealt into so many
FEWEST = 20  #: answers of a kind, right and wrong ones, by which shares are chosen
QUARTERS = 4  #: steps of the shares
WITHIN = 0.003  #: of the best score, the shares with most of `floor` are taken

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


class Learnt(msgspec.Struct, frozen=True, kw_only=True):
    """`held` [answers]: calibrated log odds of those learnt from, held out by question; NaN elsewhere. `lines`
    [models + 1, 2]: slope and offset; the last are for other models."""

    model: Additive
    shares: Mapping[str, float]
    lines: Floats
    held: Floats


class Learner:
    """Of one set of answers. `prior` [answers]: log odds by heads that have not seen their questions."""

    def __init__(self, known: Answered, seed: int = 0, on_fit: Callable[[], None] = lambda: None) -> None:
        self.known = known
        self.right = known.right.astype(np.float64)
        self.kinds = kinds(known.prompts)
        self.typical = typical_tokens(known)
        self.alone = alone(known)
        self.priors = Priors(known, seed, on_fit)
        self._numbers = np.array(
            [
                observed(one, None, self.typical[author])
                for one, author in zip(known.evidence, known.authors, strict=True)
            ]
        ).reshape(-1, len(OBSERVED))
        self._folds = by_group(known.prompts, INNER, seed + 1)

    def learn(self, train: Mask, asked: Sequence[Mask] = ()) -> tuple[Learnt, list[Floats]]:
        """And of each of `asked` [answers] the calibrated log odds of its answers, NaN elsewhere: where it is part of
        `train`, none is asked for. Raises nothing: too few answers make flat curves."""
        left = self._kinds_left(train)
        outside = [train & (self.kinds == kind) for kind in left]
        prior, priors = self.priors.of(train, [*asked, *outside])
        inside = np.full((len(EXPERTS), len(train)), np.nan)
        x = self._with(prior)
        for fold in range(INNER):
            part = train & (self._folds == fold)
            inside[:, part] = self._said(x, train & ~part, x[part])
        unlike = np.full_like(inside, np.nan)
        for mask, told in zip(outside, priors[len(asked) :], strict=True):
            unlike[:, mask] = self._said(x, train & ~mask, self._with(told)[mask])
        shares = self._shares(train, inside, unlike, outside)
        model = mean([self._fit(x, train, name) for name in EXPERTS], list(shares.values()))
        held = np.tensordot(np.array(list(shares.values())), inside, 1)
        lines = self._lines(train, held)
        out = []
        for mask, told in zip(asked, priors, strict=False):
            said = np.full(len(train), np.nan)
            said[mask] = model.log_odds(self._with(told)[mask])
            out.append(self._calibrated(said, lines))
        return Learnt(model=model, shares=shares, lines=lines, held=self._calibrated(held, lines)), out

    def _kinds_left(self, train: Mask) -> list[int]:
        """Those that can be left out, where at least one other is learnt from."""
        found = [int(kind) for kind in np.unique(self.kinds[train])]
        told = [kind for kind in found if both(self.right[train & (self.kinds == kind)])]
        return told if len(found) > 1 else []

    def _with(self, prior: Floats) -> Floats:
        x = self._numbers.copy()
        x[:, OBSERVED.index("prior")] = prior
        return x

    def _fit(self, x: Floats, train: Mask, expert: str) -> Additive:
        return fit(x[train], self.right[train], expert)

    def _said(self, x: Floats, train: Mask, asked: Floats) -> Floats:
        """[experts, asked answers]"""
        return np.stack([self._fit(x, train, name).log_odds(asked) for name in EXPERTS])

    def _shares(self, train: Mask, inside: Floats, unlike: Floats, outside: Sequence[Mask]) -> dict[str, float]:
        if not outside or not both(self.right[train]):
            return dict(SHARES)
        tried = []
        for parts in itertools.product(range(QUARTERS + 1), repeat=len(EXPERTS)):
            if sum(parts) == QUARTERS and parts[0]:
                shares = np.array(parts) / QUARTERS
                score = auc(self.right[train], (shares @ inside)[train])
                areas, leads = [], []
                for mask in outside:
                    said = (shares @ unlike)[mask]
                    areas.append(auc(self.right[mask], said))
                    leads.append(min(0.0, least_lead(self.right[mask], said, self.alone.of(mask))))
                tried.append((score + float(np.mean(areas)) + 2 * float(np.mean(leads)), parts))
        best = max(score for score, _ in tried)
        chosen = max((parts[0], score, parts) for score, parts in tried if score >= best - WITHIN)[2]
        return {name: part / QUARTERS for name, part in zip(EXPERTS, chosen, strict=True)}

    def _lines(self, train: Mask, held: Floats) -> Floats:
        count = len(self.known.models)
        parts = [train & (self.known.authors == author) for author in range(count)]
        every = line(held[train], self.right[train])
        found = [line(held[part], self.right[part]) if part.any() else every for part in parts]
        return np.array([*found, every])

    def _calibrated(self, log_odds: Floats, lines: Floats) -> Floats:
        own = lines[self.known.authors]
        return np.asarray(own[:, 1] + own[:, 0] * log_odds)


def kinds(prompts: Sequence[Prompt]) -> Ints:
    """[prompts] whole numbers: the kind of each one's task, its name up to the first slash, or the whole name where all
    tasks are of one such kind. At most `MOST_KINDS`."""
    families = [prompt.task.partition("/")[0] for prompt in prompts]
    names = families if len(set(families)) > 1 else [prompt.task for prompt in prompts]
    place = {name: k % MOST_KINDS for k, name in enumerate(sorted(set(names)))}
    return np.array([place[name] for name in names], np.int64)


def kind_names(prompts: Sequence[Prompt]) -> dict[int, str]:
    """What each number of `kinds` stands for."""
    told: dict[int, dict[str, None]] = {}
    families = [prompt.task.partition("/")[0] for prompt in prompts]
    names = families if len(set(families)) > 1 else [prompt.task for prompt in prompts]
    for kind, name in zip(kinds(prompts).tolist(), names, strict=True):
        told.setdefault(kind, {})[name] = None
    return {kind: ", ".join(told[kind]) for kind in sorted(told)}


def typical_tokens(known: Answered) -> list[float]:
    """Output tokens of an answer on average, of each model and, last, of all; 1 where none are known."""
    tokens = known.lengths()
    parts = [known.authors == author for author in range(len(known.models))]
    found = [tokens[part & np.isfinite(tokens)] for part in (*parts, np.ones(len(tokens), bool))]
    return [max(1.0, float(part.mean())) if len(part) else 1.0 for part in found]


def both(right: npt.NDArray[np.floating]) -> bool:
    """Whether there are enough answers, right and wrong ones, to say anything."""
    return len(right) >= FEWEST and 0 < (right > 0.5).mean() < 1
