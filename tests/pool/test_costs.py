"""What engines' step models are taught by a window of the pool, and how they are kept between runs."""

import json
import logging
from pathlib import Path

import msgspec
import pytest

from router.config import Member
from router.ipc.messages import Load
from router.pool.costs import Costs, KeptCost, Pricing, keep, learn
from router.pool.load import LoadTracker
from router.steps import StepModel, StepSums
from router.types import Timings, Usage

#: Of a step, a sequence, a token held, a prompt token.
LAW = (5e-3, 2e-4, 1e-7, 4e-5)


class Engine:
    """A load that is told what the steps of an engine of a known law did."""

    def __init__(self, **member: float) -> None:
        self.load = LoadTracker(Member(name="m", model="x", usd_per_hour=3.6, **member), 1.0)
        self._sums = dict.fromkeys(StepSums.__struct_fields__, 0.0)
        self.tell()

    def step(self, running: float, context: float, prefill: float, slower: float = 1.0) -> float:
        values = {"steps": 1.0, "running": running, "context": context, "prefill": prefill}
        values["seconds"] = slower * sum(x * k for x, k in zip(values.values(), LAW, strict=True))
        self._sums["rows"] += 1
        names = list(values)
        for i, name in enumerate(names):
            self._sums[name] += values[name]
            for other in names[i:]:
                self._sums[f"{name}_{other}"] += values[name] * values[other]
        return values["seconds"]

    def tell(self, running: int = 0, context: int = 0, waiting: int = 0) -> None:
        sums = StepSums(**self._sums)
        rates = {"prefill_tokens_per_s": 1_000.0, "time_per_output_token_s": 0.05}
        self.load.reported(Load(running=running, waiting=waiting, context_tokens=context, sums=sums, **rates))

    def train(self, windows: int = 80, others: float = 0.0) -> None:
        for i in range(windows):
            for k in range(4):
                n = 1 + (i + k) % 16
                self.step(n, 300.0 * n * (1 + i % 3), 500.0 if k == 0 and i % 2 else 0.0)
            self.tell()
            learn([self.load], [()], 0.25)

    @property
    def model(self) -> StepModel:
        return self.load.model()


def test_a_window_teaches_what_the_steps_took() -> None:
    engine = Engine()
    engine.train()
    model = engine.model
    found = (model.step_s, model.running_s, model.context_s, model.prefill_s)
    assert found == pytest.approx(LAW, rel=0.02)
    assert model.error_window < 0.02
    assert (model.cost_trust, model.wait_trust) == (1.0, 1.0)


def test_what_was_summed_before_we_listened_teaches_nothing() -> None:
    engine = Engine()
    engine.step(1, 100, 0)
    engine.tell()
    learn([engine.load], [()], 0.25)
    assert engine.model.windows == 0
    engine.step(1, 100, 0)
    engine.tell()
    learn([engine.load], [()], 0.25)
    assert engine.model.windows == 1


def test_an_engine_that_is_lost_and_starts_anew_is_not_taken_for_a_negative_window() -> None:
    engine = Engine()
    engine.train()
    before = engine.model
    engine.load.forget()
    engine.load.reported(Load(sums=StepSums(rows=1.0, steps=1.0, running=1.0, seconds=9.0)))
    learn([engine.load], [()], 0.25)
    assert (engine.model.windows, engine.model.step_s) == (before.windows, before.step_s)


def test_hosts_of_an_older_release_tell_no_sums_and_the_model_stays_unknown() -> None:
    load = LoadTracker(Member(name="m", model="x"), 1.0)
    for _ in range(100):
        load.reported(Load(running=1))
        learn([load], [()], 0.25)
    assert load.model() == StepModel()


def test_engines_of_one_device_are_busy_beside_one_another_and_others_are_not() -> None:
    engines = [Engine() for _ in range(3)]
    for engine in engines:
        learn([engine.load], [()], 0.25)
    for _ in range(100):
        for engine in engines:
            worked_s = engine.step(4, 1_000, 0)
            engine.tell()
        learn([engine.load for engine in engines], [("0",), ("0", "1"), ("2",)], 2 * worked_s)
    assert [engine.model.others for engine in engines] == pytest.approx([0.5, 0.5, 0.0], abs=1e-6)
    assert [engine.model.busy for engine in engines] == pytest.approx([1.0, 1.0, 0.5], abs=1e-6)


def test_a_clock_that_does_not_go_on_teaches_nothing() -> None:
    engine = Engine()
    learn([engine.load], [()], 0.25)
    engine.step(1, 100, 0)
    engine.tell()
    for took_s in (0.0, -1.0):
        learn([engine.load], [()], took_s)
    assert engine.model.windows == 0


def test_requests_whose_times_come_as_predicted_keep_the_trust_and_others_lose_it() -> None:
    good, bad = Engine(), Engine()
    for engine, factor in ((good, 1.0), (bad, 6.0)):
        engine.train()
        for id in range(1, 60):
            state = engine.load.state(ready=True, breaker_open=False)
            engine.load.submitted(400, id)
            first_s = (state.step_s + state.step_running_s + 400 * state.step_prefill_s) * factor
            token_s = state.step_s + state.step_running_s + 410 * state.step_context_s
            total_s = first_s + 20 * token_s * factor
            engine.load.answered(Usage(400, 21, 0), Timings(first_s, total_s), id)
            engine.load.ended()
        learn([engine.load], [()], 0.25)
    assert good.model.answers == bad.model.answers == 59
    assert good.model.error_output_token < 0.05
    assert good.model.cost_trust == 1.0
    assert bad.model.error_output_token == pytest.approx(5 / 6, abs=0.02)
    assert bad.model.cost_trust < 0.5
    # What takes longer whatever the model says is learnt as time beyond the steps.
    assert bad.model.overhead_s > 0.05


def test_a_rate_that_the_config_fixes_stays_above_the_model() -> None:
    engine = Engine(prefill_tokens_per_s=700.0)
    engine.train()
    assert (engine.model.cost_trust, engine.model.wait_trust) == (0.0, 0.0)


# Kept


def test_what_was_learnt_is_kept_and_a_new_process_goes_on_from_it(tmp_path: Path) -> None:
    engine, costs = Engine(), Costs(tmp_path / "cache")
    pricing = Pricing(costs, "key", "m", engine.load)
    engine.train()
    keep([pricing])
    other = Engine()
    Pricing(Costs(tmp_path / "cache"), "key", "m", other.load)
    again = other.model
    assert (again.step_s, again.running_s, again.windows) == (
        engine.model.step_s,
        engine.model.running_s,
        engine.model.windows,
    )
    assert again.cost_trust == 1.0
    fresh = Engine()
    Pricing(Costs(tmp_path / "cache"), "another engine", "m", fresh.load)
    assert fresh.model.windows == 0


def test_what_did_not_change_is_not_written_again(tmp_path: Path) -> None:
    engine = Engine()
    pricing = Pricing(Costs(tmp_path), "key", "m", engine.load)
    engine.train()
    keep([pricing])
    (tmp_path / "costs.json").unlink()
    keep([pricing])
    assert not (tmp_path / "costs.json").exists()


def _kept(tmp_path: Path) -> dict[str, object]:
    engine = Engine()
    pricing = Pricing(Costs(tmp_path), "key", "m", engine.load)
    engine.train()
    keep([pricing])
    told: dict[str, object] = json.loads((tmp_path / "costs.json").read_text())
    return told


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("{", "Input data was truncated"),
        ('{"other": 1}', "unknown field `other`"),
        ('{"headgate_costs": 2, "engines": {}}', "expected version 1 of the file, got 2"),
        ('{"headgate_costs": 1, "engines": {"key": {"model": {"windows": "many"}, "numbers": []}}}', "Expected `int`"),
        ("\x00\x01", "invalid character"),
    ],
)
def test_a_broken_or_foreign_file_is_said_and_ignored(
    tmp_path: Path, text: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "costs.json").write_text(text)
    engine = Engine()
    with caplog.at_level(logging.WARNING):
        Pricing(Costs(tmp_path), "key", "m", engine.load)
    assert engine.model == StepModel()
    assert why in caplog.text
    assert str(tmp_path / "costs.json") in caplog.text


@pytest.mark.parametrize("change", [{"windows": -1}, {"error_window": -0.5}, {"overhead_s": 1e9}, {"numbers": [1.0]}])
def test_figures_that_cannot_be_are_said_and_ignored(
    tmp_path: Path, change: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    told = _kept(tmp_path)
    kept = told["engines"]["key"]  # type: ignore[index]
    for name, value in change.items():
        (kept if name == "numbers" else kept["model"])[name] = value
    (tmp_path / "costs.json").write_text(json.dumps(told))
    engine = Engine()
    Pricing(Costs(tmp_path), "key", "m", engine.load)
    assert engine.model.windows == 0
    assert "the costs kept of engine 'm' are no such numbers: ignored" in caplog.text


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "file").write_text("")
    engine = Engine()
    pricing = Pricing(Costs(tmp_path / "file"), "key", "m", engine.load)
    engine.train()
    keep([pricing])
    assert "the step costs could not be kept" in caplog.text


def test_the_oldest_of_more_than_200_engines_are_forgotten(tmp_path: Path) -> None:
    costs = Costs(tmp_path)
    kept = msgspec.json.decode(json.dumps(_kept(tmp_path)["engines"]).encode(), type=dict[str, object])["key"]
    from router.pool.costs import KeptCost

    one = msgspec.convert(kept, KeptCost)
    costs.keep({f"engine {i}": one for i in range(250)})
    assert costs.of("engine 249") is not None
    assert costs.of("engine 49") is None


def test_an_engine_is_found_by_its_name_too_the_latest_of_that_name(tmp_path: Path) -> None:
    costs = Costs(tmp_path)
    for key, step_s in (("old", 0.01), ("new", 0.02)):
        costs.keep({key: KeptCost(member="small", model=StepModel(step_s=step_s), numbers=[])})
    found = costs.called("small")
    assert found is not None
    assert found.model.step_s == 0.02
    assert costs.called("large") is None
