"""What judging one answer costs, and how well answers are told apart: `python bench/verifier.py`.

Costs are of a verifier and a judge whose weights are all alike: what they weigh is measured all the same. Alone in
their process, answer by answer. AUROCs are of a table of answers with their tokens' log-probabilities: held out by
question, and with each kind of task left out, beside what needs no training.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import report

from router.artefacts.artefact import FORMAT, Artefact, Metadata, ModelRecord
from router.learn.verifier.answered import answered
from router.learn.verifier.judge_training import Beside, make_judge
from router.verify.evidence import Evidence
from router.verify.judged import KNOTS
from router.verify.judging import Judge
from router.verify.observed import OBSERVED
from router.verify.verifier import NAMES, LinearVerifier
from router.watched import Figures

PROMPT = (
    "Mia bakes 12 trays of 30 rolls a day and sells half of them for $2 each. She gives 15 rolls away every evening, "
    "and the rest goes to a shop that pays 75% of the price. How many dollars does she make in a week of seven days?"
)
ANSWER = (
    "Mia bakes 12 * 30 = <<12*30=360>>360 rolls a day.\nShe sells 360 / 2 = <<360/2=180>>180 of them for 180 * 2 = "
    "$<<180*2=360>>360.\nShe gives 15 away, so 180 - 15 = <<180-15=165>>165 go to the shop for 165 * 1.5 = "
    "$<<165*1.5=247.5>>247.5.\nIn a week that is 7 * 607.5 = $<<7*607.5=4252.5>>4252.5.\n#### 4252.5"
)
TABLE = report.ROOT.parent / "shared" / "data" / "evidence.parquet"
FOLDS = 5
#: `auroc_lead`: the least of the leads over mean and least log-probability and length, in domain and with each kind
#: left out, all answers together; `auroc_lead_kind`: the least among the answers of one kind that was left out.
GOALS = (
    report.Goal("auroc_in", 0.82, at_most=False),
    report.Goal("auroc_out", 0.78, at_most=False),
    report.Goal("auroc_lead", 0.0, at_most=False),
    report.Goal("quality_us", 20.0),
)
FIGURES = Figures(
    tokens=120, mean_logprob=-0.3, least_logprob=-2.5, recent_logprob=-0.2, mean_entropy=0.4, recent_entropy=0.3,
    mean_margin=3.0, least_margin=0.1, recent_margin=3.5, first_logprob=-0.1, first_entropy=0.2,
)  # fmt: skip
STATISTICS = Evidence(output_tokens=120, mean_logprob=-0.3, agreement=1.0, second_tokens=90, quality=0.6)


def main() -> None:
    parser = report.parser(__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--table", type=Path, default=TABLE, help="answers, as `headgate train --router verifier` reads"
    )
    args = parser.parse_args()
    weighs, count = verifier(), 50 if args.quick else 3_000
    giant = Evidence(prompt=PROMPT * 5_000, answer="so 12 * 3 + 5 = 41. " * 50_000)
    figures: dict[str, Any] = {}
    for name, evidence, times in (
        ("text", Evidence(prompt=PROMPT, answer=ANSWER), count),
        ("statistics", STATISTICS, count),
        ("megabyte", giant, count // 50),
    ):
        runs = [timed(lambda one=evidence: weighs.judge(one), times) for _ in range(args.runs)]
        figures |= {f"{name}_us": report.spread(runs)["median"], name: report.spread(runs)}
    told, seen = judge(), Evidence.of(PROMPT, ANSWER, FIGURES, "stop", expected_tokens=100.0)
    runs = [timed(lambda: told.quality(0.6, seen, "any"), count) for _ in range(args.runs)]
    figures |= {"quality_us": report.spread(runs)["median"], "quality": report.spread(runs)}
    if not args.quick:
        report.progress(f"{args.table.name}: held out, {FOLDS} folds and each kind of task")
        figures |= areas(args.table)
    report.finish(args, "verifier", figures, goals=GOALS, distributions=("numpy", "scipy"))


def areas(table: Path) -> dict[str, Any]:
    """AUROCs of a table's answers. Raises ConfigError."""
    found = make_judge(answered([table]), FOLDS).report
    out: dict[str, Any] = {"answers": found.in_domain.answers, "in": beside(found.in_domain)}
    out |= {"auroc_in": round(found.in_domain.judge, 4), "brier": found.brier, "ece": found.ece}
    if found.left_out is None:
        return out
    out |= {"out": beside(found.left_out), "auroc_out": round(found.left_out.judge, 4)}
    out["kinds"] = {name: beside(one) for name, one in found.kinds.items()}
    out["auroc_lead"] = round(min(found.in_domain.lead, found.left_out.lead), 4)
    out["auroc_lead_kind"] = round(min(one.lead for one in found.kinds.values()), 4)
    return out


def beside(found: Beside) -> dict[str, float | None]:
    """Side by side."""
    names = ("judge", "mean_logprob", "least_logprob", "length", "prior", "lead")
    values = {name: getattr(found, name) for name in names}
    return {name: None if value is None else round(value, 4) for name, value in values.items()}


def judge() -> Judge:
    """That weighs all numbers."""
    k = len(OBSERVED)
    arrays = {
        "judge.centre": np.zeros(k), "judge.scale": np.ones(k), "judge.unknown": np.zeros(k),
        "judge.curve": np.tile(np.linspace(-0.1, 0.1, len(KNOTS)), (k, 1)), "judge.bias": np.zeros(1),
        "judge.models": np.tile([1.0, 0.0, 100.0], (2, 1)),
    }  # fmt: skip
    told = {"numbers": list(OBSERVED), "experts": {}, "running": {}, "spreads": {}, "correlation": 0.0}
    meta = Metadata(format=FORMAT, models=(ModelRecord(name="any"),), router="verifier", options={"judge": told})
    return Judge(Artefact(meta=meta, arrays={name: array.astype(np.float32) for name, array in arrays.items()}))


def verifier() -> LinearVerifier:
    n = len(NAMES)
    arrays = {"weights": np.zeros((2, n)), "unknown": np.zeros((2, n)), "centre": np.zeros(n), "bias": np.zeros(2)}
    meta = Metadata(format=FORMAT, models=(ModelRecord(name="any"),), router="verifier", options={"names": list(NAMES)})
    return LinearVerifier(
        Artefact(meta=meta, arrays={k: a.astype(np.float32) for k, a in (arrays | {"scale": np.ones(n)}).items()})
    )


def timed(judged: Callable[[], float], times: int) -> float:
    """Median microseconds."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        judged()
        took.append((time.perf_counter() - begun) * 1e6)
    return report.quantile(took, 0.5)


if __name__ == "__main__":
    main()
