"""The branch `objective`: what is accepted, and what each refusal says."""

import pytest

from router import config
from router.errors import ConfigError

TWO = "pool:\n- {name: small, model: a}\n- {name: large, model: b}\n"


def refused(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, source="headgate.yaml")
    return str(caught.value)


@pytest.mark.parametrize(
    "objective",
    [
        "{}",
        "{kind: price, congestion: false}",
        "{kind: share, member: large, share: .3, of: tokens}",
        "{kind: budget, usd_per_day: 40}",
        "{kind: slo, ttft_ms: 300}",
        "{kind: slo, tpot_ms: 40, attainment: .95, shed: false}",
        "{kind: quality, of_strongest: .97}",
    ],
)
def test_each_kind_with_its_keys_is_accepted(objective: str) -> None:
    parsed = config.parse(f"objective: {objective}\n{TWO}").objective
    assert parsed.kind in objective or objective == "{}"


def test_without_an_objective_lambda_is_fixed_and_prices_follow_queues() -> None:
    parsed = config.parse(TWO).objective
    assert (parsed.kind, parsed.congestion, parsed.queue_s) == ("price", True, 1.0)


def test_a_budget_of_a_day_is_one_of_a_second_too() -> None:
    parsed = config.parse("objective: {kind: budget, usd_per_day: 86.4}\n" + TWO).objective
    assert parsed.usd_per_s == pytest.approx(0.001)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{kind: prise}", "expected one of price, share, budget, slo, quality (did you mean 'price'?), got 'prise'"),
        ("{knd: slo}", "unknown key 'knd' - at `$.objective`; did you mean 'kind'?"),
        ("{kind: share, member: larg, share: .3}", "one of small, large (did you mean 'large'?), got 'larg'"),
        ("{kind: share, share: .3}", "needs member and share - at `$.objective`"),
        ("{kind: share, member: small, share: 0}", "expected 0.001 to 0.999, got 0.0 - at `$.objective.share`"),
        ("{kind: share, member: small, share: 1}", "expected 0.001 to 0.999, got 1.0 - at `$.objective.share`"),
        ("{kind: share, member: small, share: .nan}", "expected 0.001 to 0.999, got nan - at `$.objective.share`"),
        ("{kind: share, member: small, share: .3, of: words}", "expected one of requests, tokens, got 'words'"),
        ("{kind: budget}", "needs usd_per_hour or usd_per_day - at `$.objective`"),
        ("{kind: budget, usd_per_hour: 1, usd_per_day: 2}", "give `usd_per_hour` or `usd_per_day`, not both"),
        ("{kind: budget, usd_per_hour: 0}", "expected a budget above 0, got 0.0 - at `$.objective.usd_per_hour`"),
        ("{kind: budget, usd_per_day: 0}", "expected a budget above 0, got 0.0 - at `$.objective.usd_per_day`"),
        ("{kind: budget, usd_per_hour: -1}", "got -1.0 - at `$.objective.usd_per_hour`"),
        ("{kind: budget, usd_per_hour: .inf}", "got inf - at `$.objective.usd_per_hour`"),
        ("{kind: slo}", "needs ttft_ms or tpot_ms - at `$.objective`"),
        ("{kind: slo, ttft_ms: 0}", "expected 1 to 604,800,000 milliseconds, got 0.0 - at `$.objective.ttft_ms`"),
        ("{kind: slo, ttft_ms: .nan}", "expected 1 to 604,800,000 milliseconds, got nan - at `$.objective.ttft_ms`"),
        ("{kind: slo, ttft_ms: 300, attainment: 1}", "got 1.0 - at `$.objective.attainment`"),
        ("{kind: slo, tpot_ms: 30, shed: true}", "requests are refused by `ttft_ms`, which is not given"),
        ("{kind: slo, ttft_ms: 300, congestion: false}", "an SLO is held by prices that follow the load"),
        ("{kind: quality}", "needs of_strongest - at `$.objective`"),
        ("{kind: quality, of_strongest: -0.5}", "expected 0.001 to 0.999, got -0.5 - at `$.objective.of_strongest`"),
        ("{share: .3}", "only an objective of `kind: share` has this; this one is of `kind: price`"),
        ("{kind: slo, ttft_ms: 300, usd_per_hour: 3}", "only an objective of `kind: budget` has this"),
        ("{queue_s: 0}", "got 0.0 - at `$.objective.queue_s`"),
        ("{most_factor: .5}", "expected 1 to 1,000,000, got 0.5 - at `$.objective.most_factor`"),
    ],
)
def test_a_refusal_names_the_key_and_what_is_allowed(text: str, message: str) -> None:
    error = refused(f"objective: {text}\n{TWO}")
    assert error.startswith("headgate.yaml: ")
    assert message in error


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "objective: {kind: quality, of_strongest: .9}\npool: [{name: a, model: x}]",
            "`kind: quality` divides requests between members: expected two at least, got one",
        ),
        (
            "objective: {kind: share, member: c, share: .3}\n" + TWO + "- {name: c, model: c, replaces: large}\n",
            "expected a member that is no canary, one of small, large, got 'c' - at `$.objective.member`",
        ),
        (
            "objective: {kind: budget, usd_per_hour: 3}\nrouting: {threshold: .5}\n" + TWO,
            "`routing.threshold` decides by win rates, which no price changes: give it or `kind: budget`",
        ),
        (
            "objective: {kind: slo, ttft_ms: 300}\nrouting: {price: 0}\n" + TWO,
            "with `routing.price: 0` no price changes a decision; expected one above 0 - at `$.routing.price`",
        ),
        (
            "objective: {kind: slo, ttft_ms: 300}\nrouting: {slo_ttft_s: 1}\n" + TWO,
            "give `routing.slo_ttft_s`, which is soft, or this one, not both - at `$.objective.ttft_ms`",
        ),
        (
            "objective: {kind: slo, ttft_ms: 300}\n" + TWO + "- {name: c, model: c, usd_per_hour: 0}\n",
            "a price of 0 cannot rise as an SLO is at risk; expected one above 0 - at `$.pool[2].usd_per_hour`",
        ),
        (
            "objective: {kind: budget, usd_per_hour: 3}\npool: [{name: a, model: x, usd_per_hour: 0}]",
            "no member has a price: `usd_per_hour` is 0 for all, and nothing is spent",
        ),
    ],
)
def test_what_clashes_with_another_branch_is_refused(text: str, message: str) -> None:
    assert message in refused(text)
