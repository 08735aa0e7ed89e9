"""What judging one answer costs: `python bench/verifier.py`.

A verifier whose weights are all zero: what it weighs is measured all the same. Alone in its process, answer by answer.
"""

import time
from typing import Any

import numpy as np
import report

from router.artefacts.artefact import FORMAT, Artefact, Metadata, ModelRecord
from router.verify.evidence import Evidence
from router.verify.verifier import NAMES, LinearVerifier

PROMPT = (
    "Mia bakes 12 trays of 30 rolls a day and sells half of them for $2 each. She gives 15 rolls away every evening, "
    "and the rest goes to a shop that pays 75% of the price. How many dollars does she make in a week of seven days?"
)
ANSWER = (
    "Mia bakes 12 * 30 = <<12*30=360>>360 rolls a day.\nShe sells 360 / 2 = <<360/2=180>>180 of them for 180 * 2 = "
    "$<<180*2=360>>360.\nShe gives 15 away, so 180 - 15 = <<180-15=165>>165 go to the shop for 165 * 1.5 = "
    "$<<165*1.5=247.5>>247.5.\nIn a week that is 7 * 607.5 = $<<7*607.5=4252.5>>4252.5.\n#### 4252.5"
)
STATISTICS = Evidence(output_tokens=120, mean_logprob=-0.3, agreement=1.0, second_tokens=90, quality=0.6)


def main() -> None:
    args = report.parser(__doc__.splitlines()[0] if __doc__ else "").parse_args()
    judge, count = verifier(), 50 if args.quick else 3_000
    giant = Evidence(prompt=PROMPT * 5_000, answer="so 12 * 3 + 5 = 41. " * 50_000)
    figures: dict[str, Any] = {}
    for name, evidence, times in (
        ("text", Evidence(prompt=PROMPT, answer=ANSWER), count),
        ("statistics", STATISTICS, count),
        ("megabyte", giant, count // 50),
    ):
        runs = [timed(judge, evidence, times) for _ in range(args.runs)]
        figures |= {f"{name}_us": report.spread(runs)["median"], name: report.spread(runs)}
    report.finish(args, "verifier", figures, distributions=("numpy",))


def verifier() -> LinearVerifier:
    n = len(NAMES)
    arrays = {"weights": np.zeros((2, n)), "unknown": np.zeros((2, n)), "centre": np.zeros(n), "bias": np.zeros(2)}
    meta = Metadata(format=FORMAT, models=(ModelRecord(name="any"),), router="verifier", options={"names": list(NAMES)})
    return LinearVerifier(
        Artefact(meta=meta, arrays={k: a.astype(np.float32) for k, a in (arrays | {"scale": np.ones(n)}).items()})
    )


def timed(judge: LinearVerifier, evidence: Evidence, times: int) -> float:
    """Median microseconds."""
    took = []
    for _ in range(times):
        begun = time.perf_counter()
        judge.judge(evidence)
        took.append((time.perf_counter() - begun) * 1e6)
    return report.quantile(took, 0.5)


if __name__ == "__main__":
    main()
