"""The cost model: recovers a known law from noisy sums, cuts what is no step, never winds up; and its twin."""

import random
from collections.abc import Callable, Iterator, Sequence

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router.native.cost import StepCost, StepMeter
from router.steps import StepSums
from tests.native.cost_twin import Model

#: Seconds of a step, of a row, of a token held, of a prompt token: an 8B on a large GPU, about.
LAW = (6e-3, 1.2e-4, 4e-8, 3e-5)
FACTOR = 0.7

Row = tuple[float, float, float, float, float]


def seconds(row: Sequence[float], law: Sequence[float] = LAW) -> float:
    return sum(x * k for x, k in zip(row, law, strict=False))


class Engine:
    """Decodes a batch that grows and shrinks, and reads a prompt now and then; its steps take what LAW says."""

    def __init__(self, seed: int, noise: float = 0.1, most: int = 64) -> None:
        self.random = random.Random(seed)
        self.noise, self.most = noise, most
        self.running, self.context = 4, 4_000.0

    def step(self, slower: float = 1.0) -> Row:
        choose = self.random
        prefill = float(choose.choice((60, 300, 1_200, 2_048))) if choose.random() < 0.15 else 0.0
        self.running = max(1, min(self.most, self.running + choose.choice((-2, -1, 0, 0, 1, 2))))
        self.context = max(200.0 * self.running, min(4_000.0 * self.running, self.context * choose.uniform(0.8, 1.3)))
        row = (1.0, float(self.running), self.context, prefill)
        took_s = seconds(row) * slower * max(0.3, choose.gauss(1.0, self.noise))
        return (*row, took_s)


def summed(rows: Sequence[Row], start: StepSums | None = None) -> StepSums:
    """What a host's sums are after `rows`, each of which is one step unless it says more."""
    values = msgspec.structs.asdict(start or StepSums())
    names = ("steps", "running", "context", "prefill", "seconds")
    for row in rows:
        values["rows"] += 1
        for i, name in enumerate(names):
            values[name] += row[i]
            for j in range(i, 5):
                values[f"{name}_{names[j]}"] += row[i] * row[j]
    return StepSums(**values)


def windows(engine: Engine, count: int, steps: int = 8, slower: float = 1.0) -> Iterator[tuple[StepSums, StepSums]]:
    before = StepSums()
    for _ in range(count):
        now = summed([engine.step(slower) for _ in range(steps)], before)
        yield before, now
        before = now


def test_a_known_law_is_recovered_within_five_percent_under_noise() -> None:
    model = StepCost()
    for before, now in windows(Engine(1), 1_500):
        assert model.learn(before, now)
    for found, real in zip(model.coefficients[:4], LAW, strict=True):
        assert found == pytest.approx(real, rel=0.05)
    assert model.error < 0.1
    assert (model.windows, model.cut) == (1_500, 0)


def test_outliers_are_cut_counted_and_change_nothing() -> None:
    model, engine = StepCost(), Engine(2)
    compiled, most = 0, random.Random(3)
    before = StepSums()
    for i in range(1_500):
        rows = [engine.step() for _ in range(8)]
        if i > 30 and most.random() < 0.03:
            rows[3] = (*rows[3][:4], rows[3][4] + 20.0)
            compiled += 1
        now = summed(rows, before)
        model.learn(before, now)
        before = now
    for found, real in zip(model.coefficients[:4], LAW, strict=True):
        assert found == pytest.approx(real, rel=0.05)
    assert compiled > 20
    assert model.cut == compiled


@pytest.mark.parametrize("first_s", [20.0, 1e-5])
def test_a_first_window_that_compiled_or_took_no_time_is_soon_forgotten(first_s: float) -> None:
    model = StepCost()
    model.learn(StepSums(), summed([(1.0, 1.0, 10.0, 0.0, first_s)]))
    for before, now in windows(Engine(4), 400):
        model.learn(before, now)
    row = (1.0, 16.0, 16_000.0, 0.0)
    assert model.predict(*row) == pytest.approx(seconds(row), rel=0.05)


def test_sums_over_windows_are_predicted_within_ten_percent_under_noise_and_outliers() -> None:
    model, engine = StepCost(), Engine(5, noise=0.25)
    errors = []
    for i, (before, now) in enumerate(windows(engine, 600)):
        if i >= 200:
            grown = {
                name: getattr(now, name) - getattr(before, name) for name in ("steps", "running", "context", "prefill")
            }
            real = now.seconds - before.seconds
            errors.append(abs(model.predict(*grown.values()) - real) / real)
        model.learn(before, now)
    assert sorted(errors)[len(errors) // 2] < 0.1


def test_inputs_that_do_not_vary_change_neither_what_is_known_of_them_nor_how_surely() -> None:
    model, engine = StepCost(), Engine(6)
    for before, now in windows(engine, 800):
        model.learn(before, now)
    known, sure = model.coefficients, model.kept()
    steady = Engine(7)
    before = StepSums()
    for _ in range(20_000):
        row = (1.0, 8.0, 8_000.0, 0.0)
        now = summed([(*row, seconds(row) * steady.random.gauss(1.0, 0.1)) for _ in range(4)], before)
        model.learn(before, now)
        before = now
    for after, start in zip(model.coefficients[:4], known[:4], strict=True):
        assert after == pytest.approx(start, rel=0.15)
    # The variances, which stand on the diagonal: they only ever fall.
    diagonal = (5, 10, 14, 17, 19)
    assert all(model.kept()[i] <= sure[i] * (1 + 1e-9) for i in diagonal)


def test_an_engine_that_becomes_slower_is_followed() -> None:
    model, engine = StepCost(), Engine(8)
    for before, now in windows(engine, 1_000):
        model.learn(before, now)
    for before, now in windows(engine, 2_000, slower=3.0):
        model.learn(before, now)
    row = (1.0, 16.0, 16_000.0, 0.0)
    assert model.predict(*row) == pytest.approx(3 * seconds(row), rel=0.1)


def test_the_factor_of_other_engines_is_recovered() -> None:
    model, engine = StepCost(), Engine(9)
    before = StepSums()
    for i in range(2_000):
        others = 0.0 if i // 50 % 2 else engine.random.uniform(0.3, 1.0)
        now = summed([engine.step(1 + FACTOR * others) for _ in range(8)], before)
        model.learn(before, now, others)
        before = now
    assert model.coefficients.others == pytest.approx(FACTOR, rel=0.05)
    for found, real in zip(model.coefficients[:4], LAW, strict=True):
        assert found == pytest.approx(real, rel=0.05)


def test_no_coefficient_is_ever_negative() -> None:
    model, engine = StepCost(), Engine(10, noise=0.6)
    law = (5e-3, 0.0, 0.0, 0.0)
    before = StepSums()
    for _ in range(300):
        rows = [engine.step() for _ in range(4)]
        noisy = [(*row[:4], law[0] * max(0.05, engine.random.gauss(1.0, 0.6))) for row in rows]
        now = summed(noisy, before)
        model.learn(before, now)
        before = now
        assert min(model.coefficients) >= 0
    assert model.predict(1, 1, 500, 0) == pytest.approx(5e-3, rel=0.25)


GOOD = summed([(1.0, 2.0, 300.0, 0.0, 0.01)])


@pytest.mark.parametrize(
    "now",
    [
        StepSums(),
        GOOD,
        msgspec.structs.replace(GOOD, rows=2.0, steps=2.0),  # no time
        msgspec.structs.replace(GOOD, rows=2.0, steps=2.0, seconds=float("nan")),
        msgspec.structs.replace(GOOD, rows=2.0, steps=2.0, seconds=float("inf")),
        msgspec.structs.replace(GOOD, rows=2.0, steps=2.0, seconds=-1.0),
        msgspec.structs.replace(GOOD, rows=2.0, steps=1.5, seconds=0.02),
        msgspec.structs.replace(GOOD, rows=2.0, steps=2.0, seconds=0.02, running_seconds=0.0),
    ],
    ids=["restarted", "same", "no time", "nan", "inf", "negative", "fewer steps than rows", "a sum that fell"],
)
def test_sums_that_did_not_grow_teach_nothing(now: StepSums) -> None:
    model = StepCost()
    assert not model.learn(GOOD, now)
    assert (model.windows, model.coefficients) == (0, (0.0,) * 5)


def test_what_is_kept_restores_the_model_and_nonsense_is_refused() -> None:
    model = StepCost()
    for before, now in windows(Engine(11), 300):
        model.learn(before, now)
    other = StepCost()
    kept = model.kept()
    for nonsense in ([], kept[:-1], [*kept[:5], -1.0, *kept[6:]], [float("nan"), *kept[1:]], [0.0] * len(kept)):
        assert not other.restore(nonsense, 300, 0, 0.05)
        assert (other.windows, other.coefficients) == (0, (0.0,) * 5)
    assert other.restore(kept, 300, 2, 0.05)
    assert (other.coefficients, other.windows, other.cut, other.error) == (model.coefficients, 300, 2, 0.05)
    assert other.kept() == kept


rows = st.tuples(st.floats(1, 32), st.floats(0, 300), st.floats(0, 1e6), st.floats(0, 1e5), st.floats(1e-6, 60))


@given(st.lists(st.tuples(st.lists(rows, min_size=1, max_size=4), st.floats(0, 3)), min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_the_native_model_is_its_twin(told: list[tuple[list[Row], float]]) -> None:
    native, twin = StepCost(), Model()
    for window, others in told:
        # From zero each time, so that both see the same window to the last bit.
        sums = summed(window)
        assert native.learn(StepSums(), sums, others)
        twin.learn(sums, others)
        assert list(native.coefficients) == twin.coefficients
    assert (native.windows, native.cut) == (twin.windows, twin.cut)


def test_the_native_model_is_its_twin_over_a_long_run() -> None:
    native, twin, engine = StepCost(), Model(), Engine(12, noise=0.3)
    for i in range(400):
        others = engine.random.choice((0.0, 0.0, 0.6, 1.0))
        sums = summed([engine.step(1 + others) for _ in range(3)])
        if i % 37 == 5:
            sums = msgspec.structs.replace(sums, seconds=sums.seconds * 60)
        native.learn(StepSums(), sums, others)
        twin.learn(sums, others)
        assert list(native.coefficients) == twin.coefficients
    assert native.cut == twin.cut > 0


# The meter


def total(meter: StepMeter) -> dict[str, float]:
    sums = meter.sums()
    return {name: getattr(sums, name) for name in ("rows", "cut", "steps", "running", "context", "prefill", "seconds")}


def test_steps_of_a_steady_batch_take_the_time_between_their_ends() -> None:
    meter = StepMeter()
    for step in range(1, 12):
        meter.outputs(100.0 + step * 0.01, 4, 0, 400.0, 0, 0)
        meter.stepped(False)
    found = total(meter)
    assert found.pop("seconds") == pytest.approx(0.1)
    assert found == {"rows": 10, "cut": 0, "steps": 10, "running": 40, "context": 4000, "prefill": 0}


def test_after_a_pause_a_step_begins_as_its_request_is_taken_up() -> None:
    meter = StepMeter()
    meter.outputs(100.0, 1, 0, 10, 0, 0)
    meter.stepped(False)
    meter.outputs(160.03, 1, 1, 50, 50, 160.0)
    meter.stepped(False)
    assert total(meter)["seconds"] == pytest.approx(0.03)


def test_a_request_that_joins_a_batch_does_not_shorten_its_step() -> None:
    meter = StepMeter()
    meter.outputs(100.0, 1, 0, 10, 0, 0)
    meter.stepped(False)
    meter.outputs(100.03, 2, 1, 60, 50, 100.02)
    meter.stepped(False)
    assert total(meter)["seconds"] == pytest.approx(0.03)


def test_a_prompt_read_in_pieces_is_one_row_of_several_steps() -> None:
    meter = StepMeter()
    meter.outputs(100.0, 1, 0, 10, 0, 0)
    meter.stepped(False)
    for _ in range(3):
        meter.stepped(True)  # nothing came of them
    meter.outputs(100.4, 1, 1, 8_000, 8_000, 100.0)
    meter.stepped(False)
    found = total(meter)
    assert found.pop("seconds") == pytest.approx(0.4)
    assert found == {"rows": 1, "cut": 0, "steps": 4, "running": 1, "context": 8000, "prefill": 8000}
    assert meter.sums().steps_prefill == 4 * 8_000


def test_a_batch_beside_a_prompt_half_read_is_one_row_until_its_first_token_and_of_32_steps_at_most() -> None:
    meter = StepMeter()
    meter.outputs(100.0, 1, 0, 10, 0, 0)
    meter.stepped(False)
    for step in range(1, 4):
        meter.outputs(100.0 + step * 0.1, 1, 0, 10, 0, 0)
        meter.stepped(True)
    assert total(meter)["rows"] == 0
    meter.outputs(100.4, 2, 1, 4_010, 4_000, 100.05)
    meter.stepped(False)
    assert (total(meter)["rows"], total(meter)["steps"]) == (1, 4)
    assert total(meter)["seconds"] == pytest.approx(0.4)
    for step in range(1, 40):
        meter.outputs(100.4 + step * 0.1, 1, 0, 10, 0, 0)
        meter.stepped(True)
    assert (total(meter)["rows"], total(meter)["steps"]) == (2, 36)


def _once(now_s: float) -> Callable[[StepMeter], None]:
    def step(meter: StepMeter) -> None:
        meter.outputs(now_s, 1, 0, 10, 0, 0)
        meter.stepped(False)

    return step


@pytest.mark.parametrize("jump_s", [100.0, 50.0, float("nan"), float("inf"), 5_000.0], ids=str)
def test_a_clock_that_stands_still_or_jumps_is_cut_and_the_next_steps_count(jump_s: float) -> None:
    meter = StepMeter()
    _once(100.0)(meter)
    _once(jump_s)(meter)
    assert (total(meter)["rows"], total(meter)["cut"]) == (0, 1)
    for step in range(4):
        _once(6_000.0 + step * 0.01)(meter)
    assert total(meter)["seconds"] == pytest.approx(0.03)
