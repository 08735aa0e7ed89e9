"""When a running answer is handed over: against a twin, by property, and worked out by hand."""

import math
from collections.abc import Sequence

import msgspec
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from plan_twin import above

from router.native.plan import Handover
from router.policy.plan import handover
from router.watched import Statistic, WatchSettings


class Known(msgspec.Struct, frozen=True):
    """As a verifier tells it."""

    statistic: Statistic = "logprob"
    tokens: tuple[float, ...] = (32.0, 64.0, 128.0)
    intercept: tuple[float, ...] = (1.0, 0.5, -0.5)
    slope: tuple[float, ...] = (2.0, 2.0, 2.0)
    prior_weight: tuple[float, ...] = (0.5, 0.5, 0.5)
    left: tuple[float, ...] = (90.0, 80.0, 60.0)


class Costs(msgspec.Struct, frozen=True):
    """Of a pair. USD."""

    token_usd: float = 1e-5
    large_quality: float = 0.85
    prompt_usd: float = 0.001
    read_usd: float = 1e-6  #: of a token that was drafted
    price: float = 100.0
    spread: float = 0.15
    correlation: float = 0.2
    large_spread: float = 0.1
    after: bool = True

    def at(self, tokens: float) -> float:
        return self.prompt_usd + 0.003 + self.read_usd * tokens

    def boundary(self, running: Known, prior: float = 0.6) -> tuple[tuple[float, float], ...]:
        return self.handover(running, prior).knots()

    def handover(self, running: Known, prior: float = 0.6) -> Handover:
        return handover(
            running, prior, self.token_usd, self.large_quality, self.at, self.price, self.spread, self.correlation,
            self.large_spread, after=self.after,
        )  # fmt: skip


def lead(running: Known, pair: Costs, prior: float, k: int, x: float) -> float:
    """csrc/boundary.hpp again: going on less handing over."""
    odds, last = math.log(prior / (1 - prior)), len(running.tokens) - 1

    def chance(at: int) -> float:
        logit = running.intercept[at] + running.slope[at] * x + running.prior_weight[at] * odds
        return 1 / (1 + math.exp(-logit))

    def large(seen: float) -> float:
        if not pair.spread or not pair.correlation:
            return pair.large_quality
        surprise = max(-4.0, min(4.0, (seen - prior) / pair.spread))
        return max(0.0, min(1.0, pair.large_quality + pair.correlation * pair.large_spread * surprise))

    def over(at: int) -> float:
        return large(chance(at)) - pair.price * pair.at(running.tokens[at])

    def ended(q: float, cost: float) -> float:
        if not pair.after:
            return q
        spread = min(pair.spread, math.sqrt(q * (1 - q)))
        apart = abs(spread - pair.correlation * pair.large_spread) if spread > 0 else 0.0
        return q + above(large(q) - pair.price * cost - q, apart)

    def on(at: int) -> float:
        if at == last:
            whole = pair.at(running.tokens[at] + running.left[at])
            return ended(chance(at), whole) - pair.price * pair.token_usd * running.left[at]
        apart = running.tokens[at + 1] - running.tokens[at]
        survives = max(0.0, min(1.0, (running.left[at] - apart / 2) / (running.left[at + 1] + apart / 2)))
        made = survives * apart + (1 - survives) * apart / 2
        value = survives * max(on(at + 1), over(at + 1)) - pair.price * pair.token_usd * made
        if survives < 1:
            then = max(0.0, min(1.0, (chance(at) - survives * chance(at + 1)) / (1 - survives)))
            value += (1 - survives) * ended(then, (pair.at(running.tokens[at]) + pair.at(running.tokens[at + 1])) / 2)
        return value

    return on(k) - over(k)


@st.composite
def known(draw: st.DrawFn, statistics: Sequence[Statistic] = ("logprob", "margin", "entropy")) -> Known:
    size = draw(st.integers(1, 8))
    statistic = draw(st.sampled_from(statistics))
    sign = {"entropy": -1.0, "tokens": 0.0}.get(statistic, 1.0)
    column = st.lists(st.floats(-2, 2), min_size=size, max_size=size).map(tuple)
    gaps = draw(st.lists(st.floats(4, 80), min_size=size, max_size=size))
    return Known(
        statistic=statistic,
        tokens=tuple(sum(gaps[: i + 1]) for i in range(size)),
        intercept=draw(column),
        slope=tuple(sign * draw(st.floats(0.1, 4)) for _ in range(size)),
        prior_weight=draw(st.lists(st.floats(0, 1), min_size=size, max_size=size).map(tuple)),
        left=tuple(draw(st.floats(5, 150)) for _ in range(size)),
    )


@st.composite
def costs(draw: st.DrawFn) -> Costs:
    return Costs(
        token_usd=draw(st.floats(0, 5e-5)),
        large_quality=draw(st.floats(0.2, 0.98)),
        prompt_usd=draw(st.floats(0, 0.004)),
        price=draw(st.floats(0, 200)),
        spread=draw(st.sampled_from([0.0]) | st.floats(0.01, 0.3)),
        correlation=draw(st.sampled_from([0.0]) | st.floats(0, 0.9)),
        after=draw(st.booleans()),
    )


@hypothesis_settings(max_examples=200, deadline=None)
@given(known(), costs(), st.floats(0.05, 0.95))
def test_at_its_bound_going_on_and_handing_over_are_worth_the_same(running: Known, pair: Costs, prior: float) -> None:
    least, most = {"logprob": (-20.0, 0.0), "margin": (0.0, 30.0), "entropy": (0.0, 12.0)}[running.statistic]
    doubt = 1 if running.statistic == "entropy" else -1
    found = dict(pair.boundary(running, prior))
    for k, tokens in enumerate(running.tokens):
        worst, best = (most, least) if doubt > 0 else (least, most)
        if tokens not in found or found[tokens] == worst:
            assert lead(running, pair, prior, k, worst) >= -1e-9
        elif found[tokens] == best:
            assert lead(running, pair, prior, k, best) < 1e-6
        else:
            bound, step = found[tokens], (most - least) / 24 / 2**19
            assert lead(running, pair, prior, k, bound + doubt * step) < 1e-9
            assert lead(running, pair, prior, k, bound - doubt * step) > -1e-9
    assert list(found) == list(running.tokens[len(running.tokens) - len(found) :])


@hypothesis_settings(max_examples=200, deadline=None)
@given(known(), costs(), st.floats(0.05, 0.95), st.floats(0, 0.3), st.floats(0, 0.003))
def test_a_better_or_cheaper_large_model_is_given_no_less(
    running: Known, pair: Costs, prior: float, better: float, cheaper: float
) -> None:
    """Without spreads: what is in the answer's own evidence cannot then be worth waiting for."""
    pair = msgspec.structs.replace(pair, spread=0.0, correlation=0.0, after=False)
    eager = msgspec.structs.replace(
        pair,
        large_quality=min(1.0, pair.large_quality + better),
        prompt_usd=max(0.0, pair.prompt_usd - cheaper),
    )
    sign = -1 if running.statistic == "entropy" else 1
    before, after = dict(pair.boundary(running, prior)), dict(eager.boundary(running, prior))
    for tokens, bound in before.items():
        assert tokens in after
        assert sign * (after[tokens] - bound) >= -1e-4


@hypothesis_settings(max_examples=200, deadline=None)
@given(known(["tokens"]), costs(), st.floats(0.05, 0.95))
def test_by_length_alone_it_is_handed_over_where_the_lead_reaches_zero(
    running: Known, pair: Costs, prior: float
) -> None:
    found = pair.boundary(running, prior)
    leads = [lead(running, pair, prior, k, 0.0) for k in range(len(running.tokens))]
    first = next((k for k, value in enumerate(leads) if value < 0), None)
    if first is None:
        assert found == ()
        return
    ((tokens, bound),) = found
    assert bound == 0.0
    low = running.tokens[first - 1] if first else running.tokens[0]
    assert low - 1e-9 <= tokens <= running.tokens[first] + 1e-9
    if first:
        share = leads[first - 1] / (leads[first - 1] - leads[first])
        assert tokens == pytest.approx(low + share * (running.tokens[first] - low), abs=1e-6)


def test_one_knot_worked_out_by_hand() -> None:
    """q(x) - 100 * 1e-5 * 60 = .85 - 100 * .004128: q = .4972, and the statistic half its log odds."""
    running = Known(tokens=(128.0,), intercept=(0.0,), slope=(2.0,), prior_weight=(0.0,), left=(60.0,))
    pair = Costs(spread=0.0, correlation=0.0, after=False)
    ((tokens, bound),) = pair.boundary(running)
    assert tokens == 128.0
    chance = 0.85 - 100 * (0.004 + 1e-6 * 128) + 100 * 1e-5 * 60
    assert chance == pytest.approx(0.4972)
    assert bound == pytest.approx(math.log(chance / (1 - chance)) / 2, abs=1e-5)


def test_an_answer_that_can_still_be_given_to_the_large_model_is_handed_over_later() -> None:
    shown, held = Costs(after=False).boundary(Known()), Costs(after=True).boundary(Known())
    assert all(later <= sooner for (_, sooner), (_, later) in zip(shown, held, strict=True))
    assert shown != held


def test_a_statistic_that_speaks_against_itself_stops_nothing() -> None:
    assert Costs().boundary(Known(slope=(-1.0, -1.0, -1.0))) == ()
    assert Costs().boundary(Known(statistic="entropy")) == ()


def test_a_large_model_that_is_worse_gets_nothing_and_one_that_is_free_and_sure_gets_all() -> None:
    assert Costs(large_quality=0.0, correlation=0.0).boundary(Known()) == ()
    free = Costs(large_quality=1.0, prompt_usd=-0.003, read_usd=0.0, correlation=0.0)
    assert [bound for _, bound in free.boundary(Known())] == [0.0, 0.0, 0.0]


def test_the_knots_are_settings_of_a_watch() -> None:
    knots = Costs().boundary(Known())
    sent = msgspec.json.encode(WatchSettings(statistic="logprob", knots=knots))
    assert msgspec.json.decode(sent, type=WatchSettings).knots == knots


@hypothesis_settings(max_examples=100, deadline=None)
@given(known(), costs(), st.floats(0.05, 0.95), st.floats(0, 1), st.data())
def test_between_knots_both_ways_on_are_worth_what_lies_straight_between(
    running: Known, pair: Costs, prior: float, share: float, data: st.DataObject
) -> None:
    found, x = pair.handover(running, prior), {"margin": 3.0, "entropy": 2.0}.get(running.statistic, -1.0)
    at = [found.worth(tokens, x) for tokens in running.tokens]
    for k, (on, over) in enumerate(at):
        assert on - over == pytest.approx(lead(running, pair, prior, k, x), abs=1e-9)
    assert found.worth(0, x) == at[0]
    assert found.worth(1e6, x) == at[-1]
    if len(at) > 1:
        k = data.draw(st.integers(0, len(at) - 2))
        low, high = running.tokens[k], running.tokens[k + 1]
        expected = [a * (1 - share) + b * share for a, b in zip(at[k], at[k + 1], strict=True)]
        assert found.worth(low + share * (high - low), x) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    ("running", "fields", "message"),
    [
        (Known(statistic="mood"), {}, "statistic: expected one of logprob, margin, entropy, tokens, got 'mood'"),  # type: ignore[arg-type]
        (Known(slope=(1.0,)), {}, r"slope: expected 3 numbers, as many as there are tokens, got \[1.0\]"),
        (Known(intercept=(1.0, math.nan, 0.0)), {}, "intercept: expected 3 numbers"),
        (Known(tokens=(32.0, 32.0, 64.0)), {}, r"tokens: expected rising numbers above 0, got \[32.0, 32.0, 64.0\]"),
        (Known(tokens=()), {}, "tokens: expected 1 to 8 knots, got 0"),
        (Known(left=()), {}, r"left: expected 3 numbers, as many as there are tokens, got \[\]"),
        (Known(tokens=tuple(range(1, 10))), {}, "tokens: expected 1 to 8 knots, got 9"),
        (Known(), {"large_quality": 1.5}, "large_quality: expected 0 to 1, got 1.5"),
        (Known(), {"token_usd": -1.0}, "token_usd: expected a number of at least 0, got -1.0"),
        (Known(), {"prompt_usd": math.inf}, "large_cost_usd: expected a number of at least 0, got inf"),
        (Known(), {"correlation": 2.0}, "correlation: expected 0 to 1, got 2.0"),
    ],
)
def test_what_is_no_boundary_s_number_is_refused_by_name(
    running: Known, fields: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        msgspec.structs.replace(Costs(), **fields).boundary(running)
