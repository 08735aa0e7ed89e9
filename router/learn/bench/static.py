"""The best static threshold: tuned on the workload's own labels, by held-out folds.

Every question is asked once of the weakest and once of the strongest member, which gives their grades and the predicted
win rate. A question's threshold is tuned on the other folds: the highest (so the fewest strong calls) at which the mix
keeps `keep` of the strongest member's quality.
"""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import uvloop

from router.errors import HeadgateError
from router.learn.bench import client, told
from router.learn.bench.grade import Graders, questioned
from router.learn.bench.plan import Plan
from router.learn.bench.policies import Policy
from router.learn.bench.progress import Progress
from router.learn.bench.rows import Folder, Label

FOLDS = 5
_STREAMS = 4  #: at once, while labels are made
_WEAK, _STRONG = "router-mf-1", "router-mf-0"  #: RouteLLM's names: a win rate of 1 is never reached, one of 0 always
Floats = npt.NDArray[np.float64]


def names(
    plan: Plan, folder: Folder, bodies: Sequence[bytes], graders: Graders, progress: Progress
) -> Mapping[int, str]:
    """The `model` by which each item is asked for under the static policy; empty where no policy is static."""
    policy = next((policy for policy in plan.policies if policy.chooser == "static"), None)
    if policy is None:
        return {}
    if not folder.labels:
        for label in _made(plan, policy, bodies, graders, progress):
            folder.add_label(label)
        folder.flush()
    labels = sorted(folder.labels, key=lambda label: label.item)
    win, weak, strong = (np.array([getattr(one, key) for one in labels]) for key in ("win_rate", "weak", "strong"))
    folds = np.array([_fold(plan.workload.items[one.item].id) for one in labels])
    thresholds = tuned(win, weak, strong, folds, plan.keep)
    return {one.item: _name(thresholds[folds[i]]) for i, one in enumerate(labels)}


def tuned(win: Floats, weak: Floats, strong: Floats, folds: npt.NDArray[np.int64], keep: float) -> dict[int, float]:
    """Each fold's threshold, by the labels of the others; of a fold that has no others, by all."""
    out = {}
    for fold in np.unique(folds):
        others = folds != fold
        if not others.any():
            others[:] = True
        out[int(fold)] = threshold(win[others], weak[others], strong[others], keep)
    return out


def threshold(win: Floats, weak: Floats, strong: Floats, keep: float) -> float:
    """The highest at which questions of a win rate of at least it, asked of the strong model and the rest of the weak,
    keep `keep` of the strong model's mean grade. Above 1: none need the strong model."""
    order = np.argsort(-win, kind="stable")
    mixed = np.concatenate([[0.0], np.cumsum((strong - weak)[order])]) + weak.sum()  # with the first k asked of strong
    ends = np.concatenate([[True], win[order][1:] != win[order][:-1], [True]])  # equal win rates go together
    enough = np.flatnonzero(ends & (mixed >= keep * strong.sum() - 1e-9))
    k = int(enough[0])
    return 2.0 if k == 0 else float(win[order][k - 1])


def _name(value: float) -> str:
    return _WEAK if value >= 1.0 else f"router-mf-{np.floor(value * 1e6) / 1e6:.6f}"


def _fold(id: str) -> int:
    return hashlib.blake2b(id.encode(), digest_size=2).digest()[0] % FOLDS


def _made(plan: Plan, policy: Policy, bodies: Sequence[bytes], graders: Graders, progress: Progress) -> list[Label]:
    items = [i for i, item in enumerate(plan.workload.items) if item.grader is not None]
    scores: dict[str, list[float]] = {}
    wins: list[float] = []
    for name in (_WEAK, _STRONG):
        progress.stage(f"labels of the static threshold, {name}", len(items))
        answers = _asked(policy, name, [bodies[i] for i in items], progress)
        texts = [_text(answer, name, plan.ask.stream) for answer in answers]
        grades = graders.grade([questioned(plan.workload.items[i], text) for i, text in zip(items, texts, strict=True)])
        scores[name] = [grade.score or 0.0 for grade in grades]
        wins = [_win_rate(answer) for answer in answers]
    return [
        Label(item=item, win_rate=win, weak=weak, strong=strong)
        for item, win, weak, strong in zip(items, wins, scores[_WEAK], scores[_STRONG], strict=True)
    ]


def _asked(policy: Policy, name: str, bodies: Sequence[bytes], progress: Progress) -> list[client.Answer]:
    """In the order of `bodies`."""
    at = policy.endpoint
    headers = [f"authorization: {at.authorization}"] if at.authorization else []
    requests = [
        client.post(at.path, b'{"model":"%s",' % name.encode() + body[1:], host=at.host, headers=headers)
        for body in bodies
    ]
    out: dict[int, client.Answer] = {}

    def keep(number: int, answer: client.Answer) -> None:
        out[number] = answer
        progress.step()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(client.closed_loop(at.url, requests, streams=_STREAMS, count=len(requests), keep=keep))
    except (OSError, ValueError) as error:
        raise HeadgateError(f"labels of the static threshold: {at.url}: {error}") from error
    return [out[number] for number in range(len(requests))]


def _text(answer: client.Answer, name: str, stream: bool) -> str:
    found = told.read(answer, stream=stream)
    if found.fault:
        raise HeadgateError(f"labels of the static threshold: {name}: {found.why}")
    return found.text


def _win_rate(answer: client.Answer) -> float:
    try:
        return float(answer.headers["x-headgate-score"])
    except (KeyError, ValueError):
        raise HeadgateError("labels of the static threshold: the server tells no x-headgate-score") from None
