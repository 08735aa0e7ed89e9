"""The watch's kernel against the native one: compiled where there is a GPU, in Triton's interpreter on any machine.

Triton settles at its import whether it interprets, so the interpreted run is a pytest of its own on this file.
"""

import os
import subprocess
import sys

import numpy as np
import pytest

from router.native.row_statistics import Watcher
from router.native.row_statistics import row_statistics as native_statistics
from tests.conftest import WORK_S
from tests.native.watched_rows import Table

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
LOGPROB, ENTROPY, MARGIN, TOKENS = range(4)
NAMES = ("orders", "states", "weights", "kept", "first_ids", "places")


@pytest.fixture(params=["cpu"] if INTERPRETED else [pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    return request.param


def test_in_the_interpreter():
    if INTERPRETED:
        pytest.skip("the suite already runs in Triton's interpreter")
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    run = subprocess.run(
        command, env={**os.environ, "TRITON_INTERPRET": "1"}, capture_output=True, text=True, timeout=WORK_S
    )
    assert run.returncode == 0, run.stdout
    assert " passed" in run.stdout


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("size", [1, 17, 512, 5000])
def test_statistics_equal_the_native_ones(device, size, dtype):
    from router.kernels.watch import row_statistics

    logits = torch.from_numpy(np.random.default_rng(size).normal(0, 4, (3, size)).astype(np.float32))
    logits[1, size // 2 :] = -np.inf if size > 1 else 0.0
    logits = logits.to(getattr(torch, dtype))
    found = row_statistics(logits.to(device)).cpu().numpy()
    np.testing.assert_allclose(found, native_statistics(logits.float().numpy()), rtol=1e-5, atol=1e-5)


def test_a_row_that_is_no_distribution_gives_nan(device):
    from router.kernels.watch import row_statistics

    logits = torch.zeros(4, 300)
    logits[0, 5], logits[1], logits[2, 0] = float("nan"), float("-inf"), float("inf")
    found = row_statistics(logits.to(device)).cpu().numpy()
    assert np.isnan(found[:3, :4]).all()
    assert found[:, 4].tolist() == [-1, -1, -1, 0]


def on_device(device):
    """A step of the kernel, on copies of the table's arrays that stay there."""

    def make(table):
        from router.kernels.watch import watch

        def step(logits, rows, slots, generations, made):
            copies = {name: torch.from_numpy(array).to(device) for name, array in zip(NAMES, table.arrays, strict=True)}
            there = torch.from_numpy(logits).to(device)
            numbers = np.stack([each.astype(np.int32) for each in (rows, slots, generations, made)])
            watch(there, torch.from_numpy(numbers).to(device), **copies, stop=table.stop, hidden=table.hidden)
            logits[:] = there.cpu().numpy()
            for name in ("states", "kept"):
                getattr(table, name)[:] = copies[name].cpu().numpy()
            return int((np.isfinite(logits).sum(axis=1) == 1).sum())

        return step

    return make


def native(table):
    return Watcher(*table.arrays, stop=table.stop, hidden=table.hidden).watch


ORDERS = [
    {"knots": [(4, -3.0), (9, -1.5), (20, -0.5)]},
    {"statistic": ENTROPY, "knots": [(2, 9.0), (12, 0.5)]},
    {"statistic": MARGIN, "knots": [(3, 0.1), (9, 4.0)], "keep_first": True},
    {"statistic": TOKENS, "knots": [(5, 0)], "min_tokens": 9},
    {"weights": np.full(20, 0.05, np.float32), "bias": 0.5, "bound": -5.0},
    {"weights": np.full(20, 0.05, np.float32), "bias": 0.5, "bound": 90.0},
    {"knots": [(n, -9.0 + n) for n in range(1, 9)]},
    {},
]


def known(states):
    """Without the figures of an answer that had a row which was no distribution."""
    return np.where((states[:, :, -1:] == 1) & (np.arange(states.shape[2]) < 14), 0, states)


def test_steps_equal_the_native_ones(device):
    """Every kind of order side by side; unsafe places, steps done anew, rows after the end, one row that is broken."""
    ours, theirs = Table(on_device(device)), Table(native)
    draw = np.random.default_rng(4)
    answers = draw.normal(0, 3, (len(ORDERS), 16, 300)).astype(np.float32)
    answers[7, 5, 11] = np.nan
    for table in (ours, theirs):
        table.hidden = 3
        table.places[:] = np.random.default_rng(8).choice([0, 1, 2, 4, 6], 300)
        for slot, order in enumerate(ORDERS):
            table.begin(slot, **order)
    stopped = 0
    for made in range(16):
        for again in range(2 if made in (0, 6) else 1):
            asked = {slot: (answers[slot, (made + again) % 16], made) for slot in range(len(ORDERS))}
            found, wanted = ours.step(dict(asked)), theirs.step(dict(asked))
            assert found == wanted
            stopped += found
            np.testing.assert_array_equal(np.isfinite(ours.logits), np.isfinite(theirs.logits))
            np.testing.assert_allclose(known(ours.states), known(theirs.states), rtol=2e-5, atol=2e-5)
            np.testing.assert_allclose(ours.kept, theirs.kept, rtol=2e-5, atol=2e-5)
    assert stopped >= 5


def test_refused(device):
    if device != "cpu":
        pytest.skip("what is refused before a launch is tested in the interpreter, whatever the device")
    from router.kernels.watch import row_statistics, watch

    arrays = dict(zip(NAMES, map(torch.from_numpy, Table(native).arrays), strict=True))
    step = torch.zeros(4, 1, dtype=torch.int32)
    with pytest.raises(ValueError, match=r"logits: expected rows of float32, got torch.float16 \[1, 300\]"):
        watch(torch.zeros(1, 300, dtype=torch.float16), step, **arrays, stop=1, hidden=-1)
    with pytest.raises(ValueError, match="logits: expected 300 tokens, got 299"):
        watch(torch.zeros(1, 299), step, **arrays, stop=1, hidden=-1)
    with pytest.raises(ValueError, match=r"step: expected torch.int32 \[4, rows\], got torch.int64 \[4, 1\]"):
        watch(torch.zeros(1, 300), step.long(), **arrays, stop=1, hidden=-1)
    with pytest.raises(ValueError, match=r"logits: expected rows of float32, bfloat16 or float16, got torch\.int64"):
        row_statistics(torch.zeros(1, 300, dtype=torch.int64))
