"""The static embedding: how near it is to the encoder that it approximates, beside baselines, and what it costs.

    python bench/embedding.py TABLE.parquet... [--unseen TABLE.parquet] --instructions

Quality is that of prompts that were never fitted to (`router.learn.distil.prompts`), and of whole tables never seen
(`--unseen`). Contestants: the embedding; cosines of the texts' WordPieces (a number a piece) and of their hashed word
1-2-grams (32,768). Judge: all-MiniLM-L6-v2. Instructions need valgrind.
"""

import argparse
import json
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import decision
import numpy as np
import numpy.typing as npt
import report

from router.artefacts import tensors
from router.features import static
from router.learn.data import outcomes
from router.learn.data.outcomes import Prompt
from router.learn.distil import prompts
from router.learn.distil.teacher import Teacher
from router.learn.fit.design import bags
from router.native.scorer import Encoder
from router.native.spec import EncoderSpec

GOALS = (report.Goal("embed_200_us", 20), report.Goal("file_mb", 8))
PAIRS = 20_000
NEAREST = 10
HASHED = 1 << 15
Floats = npt.NDArray[np.float32]
Embed = Callable[[Sequence[str]], Floats]


def unit(vectors: Floats) -> Floats:
    return np.asarray(vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9), np.float32)


def contestants(embedding: static.StaticEmbedding) -> dict[str, Embed]:
    pieces = embedding.native.encoder
    hashing = Encoder(
        EncoderSpec(pieces=pieces.spec.pieces, unk=pieces.spec.unk, max_piece=1, word_rows=HASHED, shape_rows=0),
        tensors.read(embedding.path)[1]["vocab"],
    )

    def counted(encoder: Encoder, first: int) -> Embed:
        return lambda texts: unit(bags(encoder, texts)[:, first:].toarray())

    return {
        "static": lambda texts: embedding.embed_batch(texts),
        "pieces": counted(pieces, 0),
        "hashed_ngrams": counted(hashing, pieces.spec.pieces),
    }


def compared(found: Floats, judge: Floats, tasks: npt.NDArray[np.str_]) -> dict[str, float]:
    """Spearman of cosines over pairs, share of the judge's nearest prompts found again, share of
    prompts whose nearest is of their own task."""
    draw = np.random.default_rng(1)
    a, b = draw.integers(0, len(found), (2, PAIRS))
    a, b = a[a != b], b[a != b]
    near, judged = nearest(found, NEAREST), nearest(judge, NEAREST)
    both = [len(set(x) & set(y)) / NEAREST for x, y in zip(near.tolist(), judged.tolist(), strict=True)]
    same = float((tasks[near[:, 0]] == tasks).mean())
    return {
        "spearman": round(spearman((found[a] * found[b]).sum(1), (judge[a] * judge[b]).sum(1)), 4),
        "nearest_agreement": round(statistics.mean(both), 4),
        "same_task": round(same, 4),
    }


def nearest(vectors: Floats, count: int) -> npt.NDArray[np.int64]:
    """[texts, count]: the nearest others, the nearest first."""
    cosines = vectors @ vectors.T
    np.fill_diagonal(cosines, -2)
    return np.argsort(-cosines, axis=1, kind="stable")[:, :count]


def spearman(x: Floats, y: Floats) -> float:
    ranks = [np.argsort(np.argsort(values, kind="stable"), kind="stable") for values in (x, y)]
    return float(np.corrcoef(*ranks)[0, 1])


def quality(embedding: static.StaticEmbedding, chosen: Sequence[Prompt]) -> dict[str, Any]:
    texts, tasks = prompts.texts(chosen), np.array([prompt.task for prompt in chosen])
    judge = Teacher().vectors(texts)
    found = {name: compared(embed(texts), judge, tasks) for name, embed in contestants(embedding).items()}
    return {"prompts": len(texts), "judge_same_task": compared(judge, judge, tasks)["same_task"], **found}


def microseconds(embedding: static.StaticEmbedding, texts: Sequence[str], runs: int) -> list[float]:
    """Median of the texts, in each run."""
    found = []
    for _ in range(runs):
        taken = []
        for text in texts:
            begun = time.perf_counter_ns()
            embedding.embed(text)
            taken.append(time.perf_counter_ns() - begun)
        found.append(statistics.median(taken) / 1000)
    return found


_WORK = """
import json, os, sys
from router.features import static
embedding, texts = static.read(), json.load(sys.stdin)
for text in texts: embedding.embed(text)
for n in (1, 2):
    os.getpgrp()
    for text in texts * n: embedding.embed(text)
os.getpgrp()
"""


def instructions(texts: Sequence[str]) -> float | None:
    """Of one call, the mean over the texts, by callgrind; None without valgrind. Valgrind knows no AVX-512, so that is
    the AVX2 path."""
    if not shutil.which("valgrind"):
        return None
    with tempfile.TemporaryDirectory(prefix="headgate-bench-") as folder:
        counts = Path(folder) / "counts"
        tool = ["valgrind", "--tool=callgrind", "--dump-before=getpgrp", f"--callgrind-out-file={counts}"]
        subprocess.run(
            [*tool, f"--log-file={folder}/log", sys.executable, "-c", _WORK],
            input=json.dumps(texts),
            text=True,
            check=True,
            cwd=report.ROOT,
        )
        totals = [
            int(re.search(r"^(?:summary|totals): (\d+)", Path(f"{counts}.{at}").read_text(), re.MULTILINE)[1])  # type: ignore[index]
            for at in (2, 3)
        ]
    return round((totals[1] - totals[0]) / len(texts), 1)


def main() -> None:
    parser = report.parser(__doc__ or "", runs=5)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("tables", type=Path, nargs="*", help="tables that were fitted to: their held-out prompts")
    parser.add_argument("--unseen", type=Path, nargs="*", default=[], help="tables that were not")
    parser.add_argument("--unseen-tasks", nargs="*", default=[""], help="of those, tasks that begin so")
    parser.add_argument("--most", type=int, default=1000, help="prompts of each kind")
    parser.add_argument("--instructions", action="store_true", help="count a call's instructions by callgrind")
    args = parser.parse_args()
    embedding, texts = static.read(), decision.windows(decision.prose(), 200, 20 if args.quick else 500)
    took = microseconds(embedding, texts, args.runs)
    figures: dict[str, Any] = {
        "embed_200_us": round(min(took), 2),
        "embed_200": report.spread(took),
        "isa": embedding.native.isa,
        "file_mb": round(static.DEFAULT.stat().st_size / 1e6, 3),
        "read_ms": round(_read_ms(), 2),
    }
    if args.instructions:
        figures["embed_200_instructions"] = instructions(texts[:100])
    most = 50 if args.quick else args.most
    if args.tables:
        figures["held_out"] = quality(embedding, prompts.held_out(map(outcomes.read, args.tables), most))
    if args.unseen:
        unseen = prompts.chosen(map(outcomes.read, args.unseen), sys.maxsize)
        asked = [prompt for prompt in unseen if prompt.task.startswith(tuple(args.unseen_tasks))]
        figures["unseen"] = quality(embedding, asked[:most])
    report.finish(args, "embedding", figures, goals=GOALS, distributions=("numpy", "torch", "transformers"))


def _read_ms() -> float:
    begun = time.perf_counter()
    static.read()
    return (time.perf_counter() - begun) * 1000


if __name__ == "__main__":
    main()
