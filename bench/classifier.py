"""What a fine-tuned encoder gains over the native head, and what it costs: `python bench/classifier.py`.

Times single scores of the served head, on one thread; then trains both on some MMLU prompts of RouteLLM's labels and
measures on others, no question on both sides. `--untrained`: the times only.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import report

from router import heads
from router.heads import Artefact, Claim
from router.learn import routers
from router.learn.data import outcomes
from router.learn.data.corpus import Corpus, join
from router.learn.data.folds import training_rows
from router.learn.evaluate.evaluation import Pair, figures, pair, preference, within
from router.learn.evaluate.served import fitted, predict
from router.learn.fit.recipe import SIZES

PAIR = ("mixtral-8x7b-instruct-v0.1", "gpt-4-1106-preview")
TOKENS = (20, 100, 250)
MAX_TOKENS = 128  #: MMLU's questions are hardly longer
CONTESTANTS = {
    "mf": ("mf", {}),
    "frozen": ("classifier", {"epochs": 0, "max_tokens": MAX_TOKENS}),
    "tuned": ("classifier", {"epochs": 1, "max_tokens": MAX_TOKENS}),
}


def some(corpus: Corpus, prompts: int) -> Corpus:
    """MMLU prompts at random; the same for the same number."""
    chosen = np.flatnonzero(np.char.startswith(corpus.tasks, "mmlu"))
    np.random.default_rng(0).shuffle(chosen)
    chosen = chosen[:prompts]
    return Corpus(tuple(corpus.prompts[i] for i in chosen), corpus.columns, corpus.scores[chosen], corpus.table[chosen])


def measure(corpus: Corpus, at: Pair, name: str, options: dict[str, Any], held: np.ndarray) -> dict[str, float]:
    """Held-out figures of one contestant, and what they took."""
    rows = training_rows(corpus.prompts, held)
    begun = time.perf_counter()
    made = fitted(routers.make(name, corpus, SIZES["default"], options), rows, np.arange(len(corpus.columns)))
    trained = time.perf_counter()
    logits = np.full(corpus.scores.shape, np.nan, np.float32)
    logits[held] = predict(made, [prompt.text for prompt, out in zip(corpus.prompts, held, strict=True) if out])
    predicted_ms = (time.perf_counter() - trained) / held.sum() * 1e3
    found = figures(corpus, at, preference(logits, at))
    return {
        "apgr": round(found.apgr, 4), "low": round(found.low, 4), "high": round(found.high, 4),
        "cpt50": round(found.cpt50, 4), "cpt80": round(found.cpt80, 4),
        "train_s": round(trained - begun, 1), "batch_ms": round(predicted_ms, 3),
    }  # fmt: skip


def untrained(corpus: Corpus) -> Artefact:
    """The encoder as it came, under a linear layer of ten prompts: costs what a trained one costs."""
    few = some(corpus, 10)
    trainer = routers.make("classifier", few, SIZES["default"], {"epochs": 0})
    return fitted(trainer, np.ones(10, bool), np.arange(len(few.columns)))


def serving(made: Artefact, runs: int) -> dict[str, Any]:
    """Milliseconds of one score, by the prompt's tokens; the file's size, and the process's beside that of `mf`."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "classifier.safetensors"
        heads.write(path, made)
        size, begun = path.stat().st_size, time.perf_counter()
        head = heads.load(path, [Claim(name=model.name, like=model.name) for model in made.meta.models])
        load_s = time.perf_counter() - begun
        out: dict[str, Any] = {"file_mb": round(size / 1e6, 1), "load_s": round(load_s, 2)}
        for tokens in TOKENS:
            took = [_timed(head, "word " * (tokens - 1) + str(run)) for run in range(runs)]
            out[f"score_ms_{tokens}"] = round(statistics.median(took), 2)
        return {**out, "rss_mb": round(_resident_mb(path)), "mf_rss_mb": round(_resident_mb(heads.DEFAULT))}


def _resident_mb(path: Path) -> float:
    """Of a process that has done nothing but load this checkpoint and score once."""
    code = (
        "import sys; from router import heads; "
        "model = heads.read(sys.argv[1]).meta.models[0].name; "
        "heads.load(sys.argv[1], [heads.Claim(name='m', like=model)]).score((('What is this?', 1.0),)); "
        "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmRSS')))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code, path], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1e3


def _timed(head: heads.Head, text: str) -> float:
    begun = time.perf_counter()
    head.score(((text, 1.0),))
    return (time.perf_counter() - begun) * 1e3


def main() -> None:
    parser = report.parser(__doc__.partition("\n")[0], runs=50)
    parser.add_argument("--data", type=Path, default=report.ROOT.parent / "shared/data/routellm_pairs.parquet")
    parser.add_argument("--train", type=int, default=2000, help="prompts to train on")
    parser.add_argument("--test", type=int, default=3000, help="other prompts")
    parser.add_argument("--untrained", action="store_true", help="time the served head only")
    args = parser.parse_args()
    if args.quick:
        args.train, args.test, args.runs = 20, 80, 3
    whole = join([outcomes.read(args.data)])
    report.progress("serving")
    result: dict[str, Any] = serving(untrained(whole), args.runs)
    if not args.untrained:
        corpus = some(whole, args.train + args.test)
        held = np.arange(len(corpus.prompts)) >= args.train
        at = within(pair(corpus, *PAIR), held)
        for label, (name, options) in CONTESTANTS.items():
            if args.quick and label == "mf":
                continue  # its features alone take a minute
            report.progress(label)
            found = measure(corpus, at, name, options, held)
            result |= {f"{label}_{key}": value for key, value in found.items()}
    report.finish(args, "classifier", result, distributions=("torch", "transformers", "numpy"))


if __name__ == "__main__":
    main()
