"""The worked example of docs/price.md, computed by the code that decides."""

from pathlib import Path

import msgspec
import numpy as np
import pytest

from router.native.policy import numbers_of
from router.policy import Settings, decide
from router.types import DecisionNumbers, MemberState, Query, Scores, Snapshot, Term

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "price.md").read_text()
ENGINE = MemberState(
    name="m",
    running=15,
    held_tokens=15_000,
    prefix_hit=0.375,
    mean_output_tokens=200.0,
    usd_per_s=1.0,
    step_s=6e-3,
    step_running_s=0.12e-3,
    step_context_s=40e-9,
    step_prefill_s=30e-6,
    overhead_s=2e-3,
    cost_trust=1.0,
    wait_trust=1.0,
)


def term(prompt_tokens: int = 800, choices: int = 1, **state: float) -> Term:
    pool = Snapshot((msgspec.structs.replace(ENGINE, **state),))
    query = Query(kind="chat", model="auto", turns=(), choices=choices)
    return decide(query, Scores((0.5,), prompt_tokens), pool, Settings()).terms[0]


@pytest.mark.parametrize(
    ("line", "seconds"),
    [
        ("| marginal: idle device | 46.2 ms |", term(busy=0.0).gpu_s),
        ("| average: saturated device | 121.2 ms |", term(busy=1.0).gpu_s),
        ("| its share of `a`: `o a / 16` | 75.0 ms |", term(busy=1.0).gpu_s - term(busy=0.0).gpu_s),
        ("| `g` where the device is busy for .4 of the time | 76.2 ms |", term(busy=0.4).gpu_s),
        ("| uncached prompt, `u d` | 500 tokens: 15.0 ms |", term().gpu_s - term(step_prefill_s=0.0).gpu_s),
        ("| its rows, `o (b + (p + o / 2) c)` | 200 of .156 ms: 31.2 ms |", term(step_prefill_s=0.0).gpu_s),
        ("| `w`, with 2 ms of overhead | 29.72 ms |", term().wait_s),
        ("| the batch's step, `T` | 8.4 ms |", term(queued_steps=1.0).wait_s - term().wait_s),
    ],
)
def test_the_page_says_what_is_computed(line: str, seconds: float) -> None:
    assert line in PAGE
    told = float(line.removesuffix(" ms |").rpartition(" ")[2])
    assert seconds * 1e3 == pytest.approx(told, abs=1e-9)


def test_a_saturated_batch_pays_for_all_of_its_seconds_and_no_more() -> None:
    """All 16 sequences, as each sees the other 15, over the mean of their steps."""
    paid_s = 16 * term(prompt_tokens=0, busy=1.0).gpu_s
    mean_step_s = 6e-3 + 16 * (0.12e-3 + 100 * 40e-9)
    assert paid_s == pytest.approx(200 * mean_step_s)


def test_four_choices_that_run_alone_pay_for_the_same_steps_as_one() -> None:
    one, four = (
        term(busy=1.0, step_running_s=0.0, step_context_s=0.0, step_prefill_s=0.0, running=0),
        term(choices=4, busy=1.0, step_running_s=0.0, step_context_s=0.0, step_prefill_s=0.0, running=0),
    )
    assert (one.gpu_s, four.gpu_s) == pytest.approx((200 * 6e-3, 200 * 6e-3))


def test_half_a_trust_lies_between_the_rates_and_the_model() -> None:
    rates = {"prefill_tokens_per_s": 1_000.0, "time_per_output_token_s": 0.01, "queued_gpu_s": 1.0}
    simple, half, whole = (term(cost_trust=t, wait_trust=t, **rates) for t in (0.0, 0.5, 1.0))
    assert simple.gpu_s == pytest.approx(0.5 + 2.0)
    assert simple.wait_s == pytest.approx(1.0 + 0.5)
    assert half.gpu_s == pytest.approx((simple.gpu_s + whole.gpu_s) / 2)
    assert half.wait_s == pytest.approx((simple.wait_s + whole.wait_s) / 2)


@pytest.mark.parametrize(
    ("change", "compared"),
    [
        ({"cost_trust": 1.0}, False),
        ({"cost_trust": 0.25}, True),
        ({}, True),
        ({"ready": False}, False),
        ({"usd_per_s": 0.0}, False),
        ({"canary_weight": 0.1}, False),
    ],
    ids=["trusted", "trusted a little", "no requests yet", "not ready", "costs nothing", "a canary"],
)
def test_a_member_is_charged_by_its_model_as_far_as_those_that_it_is_compared_with(
    change: dict[str, float], compared: bool
) -> None:
    """The other has no step model, or little of one: by its rates it would look dear beside marginal costs."""
    rates = {"prefill_tokens_per_s": 1_000.0, "time_per_output_token_s": 0.01}
    first = msgspec.structs.replace(ENGINE, **rates)
    other = msgspec.structs.replace(first, name="other", **{"cost_trust": 0.0, **change})
    query = Query(kind="chat", model="auto", turns=())
    terms = decide(query, Scores((0.5, 0.5), 800), Snapshot((first, other)), Settings()).terms
    trust = other.cost_trust if compared else 1.0
    by_rates, by_model = term(cost_trust=0.0, **rates).gpu_s, term(cost_trust=1.0, **rates).gpu_s
    assert terms[0].gpu_s == pytest.approx(by_rates + trust * (by_model - by_rates))
    assert terms[0].wait_s == pytest.approx(term(**rates).wait_s)
    if compared:
        assert terms[1].gpu_s == pytest.approx(terms[0].gpu_s)


def test_an_idle_engine_has_no_step_under_way() -> None:
    assert term(running=0, held_tokens=0, overhead_s=0.0).wait_s == pytest.approx(6e-3 + 0.12e-3 + 500 * 30e-6)


SMALL = MemberState(
    name="small",
    prefill_tokens_per_s=5_000.0,
    time_per_output_token_s=0.005,
    mean_output_tokens=100.0,
    usd_per_s=1 / 3600,
)
LARGE = msgspec.structs.replace(SMALL, name="large", time_per_output_token_s=0.01, usd_per_s=4 / 3600)


def test_the_worked_example_of_a_full_small_gpu_beside_an_idle_large_one_is_what_the_code_computes() -> None:
    query, scores = Query(kind="chat", model="auto", turns=()), Scores((0.5, 0.6), 100)
    idle = decide(query, scores, Snapshot((SMALL, LARGE)), Settings(price=200.0))
    full = msgspec.structs.replace(SMALL, surcharge=3.5, surcharge_of="queue")
    loaded = decide(query, scores, Snapshot((full, LARGE)), Settings(price=200.0))
    assert (idle.model, loaded.model) == ("small", "large")
    small, large = idle.terms
    assert f"takes {small.gpu_s:.2f} engine seconds".replace("0.", ".") in PAGE
    assert f"a GPU of $4 an hour {large.gpu_s:.2f}" in PAGE
    costs = f"| bought price of the request | ${small.cost_usd:.6f} | ${large.cost_usd:.6f} |"
    weighed = f"| lambda times that | {200 * small.cost_usd:.3f} | {200 * large.cost_usd:.3f} |"
    both = (
        f".5 - {200 * small.cost_usd:.3f} = {small.utility:.3f} | .6 - {200 * large.cost_usd:.3f} = {large.utility:.3f}"
    )
    then = f".5 - {200 * loaded.terms[0].cost_usd:.3f} = {loaded.terms[0].utility:.3f} | {large.utility:.3f}: chosen"
    for line in (costs, weighed, both, then):
        assert line.replace("0.", ".") in PAGE, line


LENGTHS = {"output_tokens": (200.0,), "output_log_sd": (0.5,)}


def cost_s(max_tokens: int | None = None, *, surplus: float = 0.0, **lengths: tuple[float, ...]) -> float:
    """Of a query, where a token is a second and the prompt costs nothing."""
    member = MemberState(name="m", time_per_output_token_s=1.0, mean_output_tokens=70.0, output_surplus=surplus)
    query = Query(kind="chat", model="auto", turns=(), max_tokens=max_tokens)
    return decide(query, Scores((0.5,), 0, **lengths), Snapshot((member,)), Settings()).terms[0].gpu_s


@pytest.mark.parametrize("most", [1, 20, 176, 200, 1_000, 1_000_000])
@pytest.mark.parametrize("log_sd", [0.05, 0.5, 2.0])
def test_the_mean_length_under_max_tokens_is_that_of_the_lognormal_cut_there(most: int, log_sd: float) -> None:
    z = np.linspace(-12, 12, 400_001)
    lengths = 200 * np.exp(log_sd * z - log_sd**2 / 2)
    expected = float(np.average(np.minimum(lengths, most), weights=np.exp(-(z**2) / 2)))
    found = cost_s(most, output_tokens=(200.0,), output_log_sd=(log_sd,))
    assert found == pytest.approx(expected, rel=1e-6)
    assert found <= min(most, 200.0) * (1 + 1e-12)


def test_a_query_costs_by_its_own_length_at_the_members_level_else_by_the_members_mean() -> None:
    assert cost_s() == 70.0
    assert cost_s(**LENGTHS) == 200.0
    assert cost_s(surplus=0.25, **LENGTHS) == 250.0
    assert cost_s(surplus=0.25) == 70.0, "the mean is of the member's own answers"
    assert cost_s(output_tokens=(0.0,), output_log_sd=(0.0,)) == 70.0
    assert cost_s(50, output_tokens=(200.0,)) == 50.0, "without a deviation all answers are of the mean length"


def test_the_pages_worked_example_of_a_length_is_what_the_code_computes() -> None:
    for line, most in (("| no `max_tokens` | 200.0 |", None), ("| 400 | 194.8 |", 400), ("| 100 | 97.4 |", 100)):
        assert line in PAGE
        assert f"{cost_s(most, **LENGTHS):.1f}" == line.split("|")[2].strip()


def test_a_record_of_a_release_without_lengths_decides_again_as_it_did() -> None:
    query = Query(kind="chat", model="auto", turns=())
    numbers = decide(query, Scores((0.5, 0.6), 100), Snapshot((SMALL, LARGE)), Settings(price=200.0)).numbers
    assert numbers is not None
    record = numbers.record()
    assert "output_tokens" not in record.scores
    assert "output_surplus" not in record.members
    told = decide(query, Scores((0.5, 0.6), 100, (9.0, 900.0), (0.1, 0.1)), Snapshot((SMALL, LARGE)), Settings())
    kept = told.numbers.record() if told.numbers is not None else None
    assert kept is not None
    assert kept.scores["output_tokens"] == (9.0, 900.0)
    again = numbers_of(msgspec.json.decode(msgspec.json.encode(kept), type=DecisionNumbers))
    assert again.terms() == told.terms
    assert numbers_of(record).terms() == numbers.terms()
