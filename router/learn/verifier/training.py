"""`headgate train --router verifier` without the command line: answers in, a verifier and its held-out figures out."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.heads import write
from router.learn import output
from router.learn.data import records
from router.learn.data.folds import by_group
from router.learn.data.outcomes import Prompt
from router.learn.evaluate import metrics
from router.learn.evaluate.metrics_calibration import ece, equal_mass
from router.learn.verifier.answered import Answered, answered
from router.learn.verifier.auroc import auc
from router.learn.verifier.fit import INNER, fit
from router.learn.verifier.judge_training import JudgeReport, make_judge, steps
from router.verify.evidence import Evidence
from router.verify.verifier import LinearVerifier

Floats = npt.NDArray[np.float32]


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """How well answers were judged that the fit did not see; `length` and `base` are what it must beat."""

    auc: float  #: a right answer is put above a wrong one; 0.5: chance
    length_auc: float  #: by the answer's length alone
    brier: float
    base_brier: float  #: of saying the mean to all
    ece: float  #: expected calibration error, in bins of equal mass


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What training made."""

    out: str
    bytes: int
    answers: int
    right: float  #: share
    models: tuple[str, ...]
    held_out: Judged  #: of `LinearVerifier`, which reads the text
    judge: JudgeReport


def run(
    tables: Sequence[Path],
    responses: Sequence[Path],
    judged: Sequence[str],
    out: Path,
    *,
    folds: int = 5,
    seed: int = 0,
    cost_ratio: float | None = None,
    command: str = "",
    on_stage: Callable[[str, int], None] = lambda name, steps: None,
    on_step: Callable[[], None] = lambda: None,
) -> Report:
    """Raises ConfigError on bad input."""
    output.check("--out", out, (*tables, *responses))
    on_stage("answers", 1)
    known = answered(tables, responses, judged)
    on_step()
    on_stage(f"held out, {folds} folds", folds)
    figures = _held_out(known, folds, seed, on_step)
    on_stage("all answers", 1)
    made = fit(known.evidence, known.right, by_group(known.prompts, INNER, seed + 1), known.models, data=known.data)
    on_step()
    on_stage("judge, held out", steps(known, folds))
    judge = make_judge(known, folds, seed, cost_ratio, on_step)
    meta = msgspec.structs.replace(
        made.meta, recipe=command, figures=msgspec.to_builtins(figures) | _told(judge.report),
        options=made.meta.options | {"judge": msgspec.to_builtins(judge.options)},
    )  # fmt: skip
    write(out, msgspec.structs.replace(made, meta=meta, arrays={**made.arrays, **judge.arrays}))
    return Report(
        out=records.told(out), bytes=out.stat().st_size, answers=len(known.right), right=float(known.right.mean()),
        models=known.models, held_out=figures, judge=judge.report,
    )  # fmt: skip


def _told(report: JudgeReport) -> dict[str, float]:
    """For the artefact."""
    figures = {"auroc_in": report.in_domain.judge, "lead_in": report.in_domain.lead}
    if report.left_out is not None:
        figures |= {"auroc_out": report.left_out.judge, "lead_out": report.left_out.lead}
    return figures


def held_out(
    evidence: Sequence[Evidence],
    right: Floats,
    prompts: Sequence[Prompt],
    models: Sequence[str],
    folds: npt.NDArray[np.int64],
    seed: int = 0,
    on_step: Callable[[], None] = lambda: None,
) -> Floats:
    """P(correct) of every answer, by verifiers that have not seen its question."""
    inner = by_group(prompts, INNER, seed + 1)
    out = np.full(len(right), np.nan, np.float32)
    for fold in range(folds.max() + 1):
        train, test = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
        made = fit([evidence[i] for i in train], right[train], inner[train], models)
        out[test] = LinearVerifier(made).judge_many([evidence[i] for i in test])
        on_step()
    return out


def judged_by(said: Floats, right: Floats, lengths: Floats) -> Judged:
    """Figures of what was said, against the labels."""
    by_length = auc(right, -lengths)
    return Judged(
        auc=auc(right, said),
        length_auc=max(by_length, 1 - by_length),
        brier=metrics.brier(right, said),
        base_brier=metrics.brier(right, np.full_like(right, right.mean())),
        ece=ece(equal_mass(right, said)),
    )


def _held_out(known: Answered, folds: int, seed: int, on_step: Callable[[], None]) -> Judged:
    dealt = by_group(known.prompts, folds, seed)
    if len(np.unique(dealt)) < folds:
        raise ConfigError(f"--folds: expected answers to more questions than {len(np.unique(dealt))} for {folds} folds")
    said = held_out(known.evidence, known.right, known.prompts, known.models, dealt, seed, on_step)
    lengths = [len(one.answer) if one.answer is not None else one.output_tokens or 0 for one in known.evidence]
    return judged_by(said, known.right, np.array(lengths, np.float32))
