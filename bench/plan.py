"""The plan beside a router, a threshold cascade and the length rule, offline: `python bench/plan.py`; docs/moments.md.

Last line: JSON with plan_us (8 models, natively), boundary_us (8 knots), and of every table with answers, by its name,
`_worst_gap`: the least, over cost levels, of the plan's accuracy less the best of the other three's, `_noise`: the
half width there of the 95 % band around all levels (`_noise_alone`: of that level alone), `_lead`: the mean over cost
levels; `worst_gap` is the least of all.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import plan_policies as policies
import report
from plan_tables import TABLES, Floats, Running, Table, calibrated, recipe_of

from router.native import plan as native
from router.policy.plan import handover

GOALS = (report.Goal("plan_us", 10), report.Goal("worst_gap_and_noise", 0, at_most=False))
LEVELS, DRAWS = 41, 300
BASELINES = {"router": policies.router, "cascade": policies.cascade, "length": policies.length}
OURS = {
    "plan": policies.planned,
    "plan_without_handover": lambda table: policies.planned(table, during=False),
    "fixed_sets": policies.fixed,
}


def main() -> None:
    parser = report.parser(__doc__.splitlines()[0] if __doc__ else "", runs=7)
    parser.add_argument("--data", type=Path, default=report.ROOT.parent / "shared" / "data", help="the tables' folder")
    parser.add_argument("--only", nargs="+", choices=[*TABLES, "time"], help="some of the tables; `time`: none")
    parser.add_argument("--most", type=int, default=3000, help="prompts of a table")
    parser.add_argument("--picture", type=Path, help="draw quality against cost into this file")
    args = parser.parse_args()
    report.finish(args, "plan", measure(args), goals=GOALS, distributions=("numpy", "scikit-learn"))


def measure(args: argparse.Namespace) -> dict[str, Any]:
    times = {"plan_us": plan_us, "boundary_us": boundary_us}
    runs = {name: [each(args.quick) for _ in range(args.runs)] for name, each in times.items()}
    figures: dict[str, Any] = {name: statistics.median(values) for name, values in runs.items()}
    figures["spread"] = {name: report.spread(values) for name, values in runs.items()}
    drawn, gaps = {}, []
    for name in [name for name in TABLES if args.only is None or name in args.only]:
        most = min(args.most, 150) if args.quick else args.most
        table = calibrated(TABLES[name](args.data, recipe_of(name, args.quick), most, report.progress))
        report.progress(f"{name}: policies")
        found, drawn[name] = compare(table, 30 if args.quick else DRAWS)
        figures |= {f"{name}_{key}": value for key, value in found.items()}
        gaps.append((found["worst_gap"], found["noise"]))
    if gaps:
        figures["worst_gap"] = min(gap for gap, _ in gaps)
        figures["worst_gap_and_noise"] = round(min(gap + noise for gap, noise in gaps), 4)
    if args.picture:
        draw(drawn, args.picture)
    return figures


def compare(table: Table, draws: int) -> tuple[dict[str, Any], dict[str, tuple[Floats, Floats]]]:
    """Figures, and what there is to draw: cost levels and quality of each policy."""
    curves = {name: policy(table) for name, policy in (BASELINES | OURS).items()}
    ends = sorted((float(table.tokens.mean()), policies.large_cost(table)))
    levels = np.linspace(*ends, LEVELS)
    reached = {name: curve.at(levels) for name, curve in curves.items()}
    rng = np.random.default_rng(0)
    counts = [np.bincount(rng.integers(0, n, n), minlength=n) for n in [len(table.tokens)] * draws]
    again = {name: np.array([curve.at(levels, each) for each in counts]) for name, curve in curves.items()}
    found: dict[str, Any] = {
        "prompts": len(table.tokens), "small": float(table.right.mean()), "large": float(table.large_right.mean()),
    }  # fmt: skip
    fits = [table.fitted(int(fold)) for fold in np.unique(table.folds)]
    found["spread"] = float(np.mean([fit.spread for fit in fits]))
    found["left_spread"] = float(np.mean([fit.left_spread for fit in fits]))
    found["correlation"] = float(np.mean([fit.correlation for fit in fits]))
    for name in OURS:
        gap = reached[name] - np.max([reached[b] for b in BASELINES], 0)
        drawn = again[name] - np.max([again[b] for b in BASELINES], 0)
        at, prefix = int(gap.argmin()), "" if name == "plan" else f"{name}_"
        found |= {
            f"{prefix}worst_gap": float(gap[at]),
            f"{prefix}noise": band(gap, drawn) * float(drawn[:, at].std()),
            f"{prefix}noise_alone": 1.96 * float(drawn[:, at].std()),
            f"{prefix}worst_at": float((levels[at] - ends[0]) / (ends[1] - ends[0])),
            f"{prefix}lead": float(gap.mean()),
            f"{prefix}lead_noise": 1.96 * float(drawn.mean(1).std()),
        }
    # Mean quality over the cost levels, of each policy.
    found |= {f"{name}_area": float(value.mean()) for name, value in reached.items()}
    shown = {name: (levels / ends[1], value) for name, value in reached.items()}
    return {key: round(value, 4) for key, value in found.items()}, shown


def band(values: Floats, drawn: Floats) -> float:
    """By how many standard deviations the drawn values leave their own at the worst level, in 95 of 100 draws: the
    worst of many levels is worse than one level alone. `drawn` [draws, levels]."""
    deviation = drawn.std(0)
    real = deviation > 1e-9
    return float(np.quantile((np.abs(drawn - values)[:, real] / deviation[real]).max(1), 0.95)) if real.any() else 0.0


def plan_us(quick: bool) -> float:
    """Of 8 models, nothing run, each with a spread; 50 in a row, as native code calls it, and the median of these."""
    rng, rows, batch = np.random.default_rng(0), 200 if quick else 5_000, 50
    quality, spread = rng.uniform(0.3, 0.9, (rows, 8)), rng.uniform(0.02, 0.2, (rows, 8))
    cost = rng.uniform(2e-4, 4e-3, (rows, 8)) * quality**2
    run, out, taken = np.zeros((rows, 8), np.uint8), np.empty(rows, np.int32), []
    for at in range(0, rows, batch):
        part = slice(at, at + batch)
        started = time.perf_counter()
        native.plan_rows(quality[part], cost[part], spread[part], run[part], 100.0, 0.3, out[part])
        taken.append((time.perf_counter() - started) / batch * 1e6)
    return statistics.median(taken)


def boundary_us(quick: bool) -> float:
    """Of 8 knots, numbers read from Python included."""
    tokens = tuple(float(16 * (k + 1)) for k in range(8))
    left = tuple(90.0 - 5 * k for k in range(8))
    falls = tuple(1.0 - 0.3 * k for k in range(8))
    running = Running("logprob", tokens, falls, (1.5,) * 8, (0.5,) * 8, left)
    taken = []
    for _ in range(20 if quick else 500):
        started = time.perf_counter()
        handover(running, 0.6, 1e-5, 0.85, lambda at: 0.004 + 1e-6 * at, 100.0, 0.1, 0.2, 0.1).knots()
        taken.append((time.perf_counter() - started) * 1e6)
    return statistics.median(taken)


def draw(tables: dict[str, dict[str, tuple[Floats, Floats]]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(tables), figsize=(5 * len(tables), 4), squeeze=False)
    for axis, (name, curves) in zip(axes[0], tables.items(), strict=True):
        for policy, (cost, quality) in curves.items():
            ours = policy == "plan"
            axis.plot(cost, quality, label=policy.replace("_", " "), lw=2.5 if ours else 1.2, zorder=3 if ours else 2)
        axis.set(title=name, xlabel="cost of a prompt, all-large = 1", ylabel="share answered right")
        axis.grid(alpha=0.3)
    axes[0][0].legend(fontsize=8)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
