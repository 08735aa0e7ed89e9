"""The watch's kernel against the native one: compiled where there is a GPU, in Triton's interpreter on any machine."""

import numpy as np
import pytest

from router.native.row_statistics import Watcher
from router.native.row_statistics import row_statistics as native_statistics
from tests.kernels import interpreted
from tests.native.watched_rows import Table

torch = pytest.importorskip("torch")
pytest.importorskip("triton")

LOGPROB, ENTROPY, MARGIN, TOKENS = range(4)
NAMES = ("orders", "states", "weights", "kept", "first_ids", "places")


@pytest.fixture(params=["cpu"] if interpreted.INTERPRETED else [pytest.param("cuda", marks=pytest.mark.gpu)])
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU")
    return request.param


def test_in_the_interpreter():
    interpreted.run(__file__)


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


def test_a_workers_copies_on_the_device_give_the_table_what_the_native_way_does(device, tmp_path):
    """Orders that come later, a slot that is used again, and the first token's logits."""
    from router.host.watch.device import DeviceWatch
    from router.host.watch.requests import Watches
    from router.host.watch.table import KEY, WatchTable

    answers = np.random.default_rng(1).normal(0, 3, (4, 8, 300)).astype(np.float32)
    seen = []
    for name in ("device", "native"):
        table = WatchTable.create(str(tmp_path / name), 300, slots=2, firsts=20)
        table.describe(np.ones(300, np.uint8), np.arange(20, dtype=np.int32), stop=7, hidden=7)
        watches, there = Watches(table), DeviceWatch(table, torch.device(device))
        stops = []
        for rows in answers:
            watch = watches.begin(b'{"statistic": "tokens", "knots": [[5, 0]], "keep_first": true}')
            _, slot, generation = watch.extra_args[KEY]
            at = np.zeros(1, np.int32), np.array([slot], np.int32), np.array([generation], np.float32)
            there.began(slot)
            for made, row in enumerate(rows):
                logits, count = torch.from_numpy(row[None, :].copy()), np.array([made], np.float32)
                if name == "device":
                    logits = logits.to(device)
                    there.watch(logits, *at, count)
                    if device == "cuda":
                        torch.cuda.synchronize()
                else:
                    native(Arrays(table))(logits.numpy(), *at, count)
                stops.append(int(torch.isfinite(logits).sum()))
            seen.append((watch.figures(6), watch.first_logits(6)))
            watch.release()
        assert stops == ([299] * 5 + [1] + [299] * 2) * 4
    for ours, theirs in zip(seen[:4], seen[4:], strict=True):
        assert ours[0].tokens == theirs[0].tokens == 6
        assert ours[0].mean_entropy == pytest.approx(theirs[0].mean_entropy, rel=1e-5)
        np.testing.assert_allclose(*(np.frombuffer(first, np.float16) for _, first in (ours, theirs)), rtol=2e-3)


class Arrays:
    """A table as `native` takes it."""

    def __init__(self, table):
        self.arrays = tuple(getattr(table, name) for name in NAMES)
        self.stop, self.hidden = table.stop, table.hidden
