"""A judge says what its file's numbers say, refuses a broken file, and without a file goes by stated curves."""

import math
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.artefacts import artefact as artefacts
from router.artefacts.artefact import FORMAT, Artefact, Metadata, ModelRecord
from router.errors import ConfigError
from router.verify.evidence import Evidence
from router.verify.judging import Judge, fixed, load
from router.watched import Figures

NUMBERS = ["tokens", "least_logprob", "prior"]
RUNNING = {
    "statistic": "logprob", "tokens": [10, 20], "intercept": [0, -1], "slope": [2, 3], "prior_weight": [1, 0.5],
    "left": [5, 4],
}  # fmt: skip
JUDGE: dict[str, Any] = {
    "numbers": NUMBERS, "experts": {"floor": 1.0}, "running": {"tiny": RUNNING, "": RUNNING | {"statistic": "tokens"}},
    "spreads": {"tiny": 0.2, "": 0.1}, "correlation": 0.25,
    "gains": {
        "cascade": {"mean": 0.02, "low": 0.01, "high": 0.03}, "handoff": {"mean": 0.01, "low": -0.01, "high": 0.03},
    },
    "measured": "tiny, big", "probed": ["tiny"],
}  # fmt: skip


def arrays() -> dict[str, Any]:
    return {
        "judge.centre": [0, -2, 0], "judge.scale": [1, 2, 1], "judge.unknown": [0, 0.5, -0.25], "judge.bias": [0.125],
        "judge.curve": [[2, 1, 0, -1, -1], [-3, -1, 0, 1, 1], [-4, -1, 0, 1, 4]],
        "judge.models": [[1, 0, 100], [2, 1, 50]],
        "first.weights": [[1, -1]], "first.line": [[0.5, 2]], "first.ids": [7, 3],
    }  # fmt: skip


def made(
    judge: dict[str, Any] | None = None, tensors: dict[str, Any] | None = None, router: str = "verifier"
) -> Artefact:
    told = {key: value for key, value in (JUDGE | (judge or {})).items() if value is not None}
    meta = Metadata(format=FORMAT, models=(ModelRecord(name="tiny"),), router=router, options={"judge": told})
    numbers = {name: value for name, value in (arrays() | (tensors or {})).items() if value is not None}
    kinds = {name: np.int32 if name == "first.ids" else np.float32 for name in numbers}
    return Artefact(meta=meta, arrays={name: np.asarray(value, kinds[name]) for name, value in numbers.items()})


def test_log_odds_are_the_sum_of_the_curves_at_the_values() -> None:
    judge = Judge(made())
    evidence = Evidence(output_tokens=round(100 * math.e), least_logprob=0.01 - math.exp(5))
    # tokens: one deviation above: -1; least: 1.5 below, a sixth of the way from -1 to -3; prior: log odds 0
    assert judge.log_odds(0.5, evidence, "tiny") == pytest.approx(0.125 - 1 - (1 + 2 * 0.5 / 3), abs=2e-3)
    assert judge.quality(0.5, evidence, "tiny") == pytest.approx(1 / (1 + math.exp(0.875 + 4 / 3)), abs=1e-3)


def test_unknown_numbers_have_their_own_weights_and_other_models_the_line_of_all_others() -> None:
    judge = Judge(made())
    assert judge.log_odds(None, Evidence(), "tiny") == pytest.approx(0.125 + 0.5 - 0.25)
    assert judge.log_odds(None, Evidence(), "stranger") == pytest.approx(1 + 2 * 0.375)


def test_numbers_far_out_speak_as_those_four_deviations_out() -> None:
    judge = Judge(made())
    far, farther = (judge.log_odds(0.5, Evidence(least_logprob=-n), "tiny") for n in (1e5, 1e9))
    assert far == farther


def test_what_the_file_says_of_models_gains_and_running_answers_is_handed_out() -> None:
    judge = Judge(made())
    assert judge.gains == {"cascade": 0.02, "handoff": 0.0}
    assert (judge.spread("tiny"), judge.spread("stranger"), judge.correlation) == (0.2, 0.1, 0.25)
    assert (judge.running(0.5, "tiny").statistic, judge.running(0.5, "stranger").statistic) == ("logprob", "tokens")
    assert judge.running(0.5, "tiny").left == (5, 4)
    probe = judge.first("tiny", prior=0.75)
    assert probe is not None
    assert probe[0].tolist() == [1, -1]
    assert probe[1] == pytest.approx(0.5 + 2 * math.log(3))
    assert judge.first("tiny") == (pytest.approx(probe[0]), pytest.approx(0.5))
    assert judge.first("stranger") is None
    assert judge.first_ids == (7, 3)


def test_a_file_reads_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "verifier.safetensors"
    artefacts.write(path, made())
    evidence = Evidence(answer="so 4", least_logprob=-1.0)
    assert load(path).quality(0.3, evidence, "tiny") == Judge(made()).quality(0.3, evidence, "tiny")


def _running(**changes: Any) -> dict[str, Any]:
    return {"running": {"tiny": RUNNING | changes}}


@pytest.mark.parametrize(
    ("judge", "tensors", "message"),
    [
        ({"numbers": ["luck"]}, {}, "options.judge.numbers: expected some of tokens, .*; got 'luck'"),
        ({"correlation": 2}, {}, "options.judge.correlation: expected -1 to 1, got 2"),
        ({"correlation": "much"}, {}, r"options.judge: Expected `float`, got `str` - at `\$.correlation`"),
        ({"spreads": {"tiny": -1.0}}, {}, "options.judge.spreads.tiny: expected 0 to 1, got -1"),
        ({"gains": {"luck": {"mean": 0, "low": 0, "high": 0}}}, {}, "judge.gains: expected some of cascade, handoff, "),
        ({"probed": ["big"]}, {}, r"options.judge.probed: expected some of \['tiny'\]; got 'big'"),
        ({"surprise": 1}, {}, "options.judge: Object contains unknown field `surprise`"),
        (_running(left=[1]), {}, "judge.running.tiny.left: expected 2 numbers, one a knot; got 1"),
        (_running(tokens=[20, 10]), {}, "judge.running.tiny: expected rising tokens above 0"),
        (_running(tokens=list(range(1, 10))), {}, "judge.running.tiny.tokens: expected at most 8 knots, got 9"),
        (_running(statistic="luck"), {}, r"Invalid enum value 'luck' - at `\$.running"),
        ({}, {"judge.scale": [1, 0, 1]}, "judge.scale: expected numbers above 0, got 0"),
        ({}, {"judge.models": [[1, 0, 100], [1, 0, 0]]}, "judge.models: expected numbers above 0, got 0"),
        ({}, {"judge.curve": None}, "judge.curve: expected this tensor, got"),
        ({}, {"judge.curve": np.zeros((3, 4))}, r"judge.curve: expected shape \[3, 5\], got \[3, 4\]"),
        ({}, {"first.ids": [1]}, r"first.ids: expected shape \[2\], got \[1\]"),
    ],
)
def test_a_broken_file_is_refused_by_key(judge: dict[str, Any], tensors: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as error:
        Judge(made(judge, tensors))
    assert str(error.value).startswith("<memory>: ")


def test_files_of_another_method_and_of_an_earlier_version_are_refused() -> None:
    with pytest.raises(ConfigError, match="router: expected 'verifier', got 'mf'"):
        Judge(made(router="mf"))
    old = msgspec.structs.replace(made(), meta=msgspec.structs.replace(made().meta, options={}))
    with pytest.raises(ConfigError, match="the file is of an earlier version, train it again"):
        Judge(old)


def test_without_a_file_nothing_known_is_the_prior() -> None:
    assert fixed().quality(0.7, Evidence(), "any") == pytest.approx(0.7)
    assert fixed().gains == {}
    assert fixed().first("any") is None


@pytest.mark.parametrize(
    ("evidence", "log_odds"),
    [
        (Evidence(least_logprob=-1.5), 0.0),
        (Evidence(least_logprob=-3.5), -1.0),
        (Evidence(least_logprob=-99.0), -1.5),
        (Evidence(output_tokens=200, expected_tokens=100.0), -0.75),
        (Evidence(output_tokens=50, expected_tokens=100.0), 0.75),
        (Evidence(output_tokens=9999, expected_tokens=1.0), -1.5),
        (Evidence(output_tokens=200), 0.0),
        (Evidence(mean_logprob=-9.0), 0.0),
        (Evidence(finish_reason="length"), -1.0),
        (Evidence(finish_reason="length", least_logprob=-3.5, answer="x" * 400, expected_tokens=50.0), -2.75),
    ],
)
def test_without_a_file_the_stated_curves_hold(evidence: Evidence, log_odds: float) -> None:
    assert fixed().log_odds(0.5, evidence, "any") == pytest.approx(log_odds)


def test_without_a_file_a_running_answer_is_judged_by_its_tokens_against_the_expected() -> None:
    running = fixed().running(0.5, "any", 40.0)
    assert running.statistic == "tokens"
    assert running.tokens[:3] == (20, 30, 40)
    assert running.intercept[2] == 0 > running.intercept[-1]
    assert running.prior_weight == (1.0,) * len(running.tokens)
    assert fixed().running(0.5, "any").tokens == ()


@given(
    st.floats(0, 1),
    st.floats(-1e9, 0),
    st.integers(0, 10**9),
    st.sampled_from([None, "stop", "length"]),
    st.text(max_size=60),
)
def test_any_evidence_has_a_quality(prior: float, logprob: float, tokens: int, finish: str | None, text: str) -> None:
    figures = Figures(tokens=tokens, mean_logprob=logprob, least_logprob=logprob, recent_logprob=logprob)
    seen = Evidence.of("p", text, figures, finish, expected_tokens=float(tokens))
    for judge in (Judge(made()), fixed()):
        assert 0 <= judge.quality(prior, seen, "tiny") <= 1
