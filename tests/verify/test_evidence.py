"""The numbers that a verifier weighs, on hand-made answers."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.verify.evidence import Evidence, measure

PROMPT = "Tom has 12 boxes of 30 pens and gives half away. 5 pens are lost. How many pens are left?"
GOOD = "He has 12 * 30 = 360 pens.\nHalf is 360 / 2 = 180.\nSo 180 - 5 = 175 are left.\n#### 175"


def of(answer: str, prompt: str = PROMPT) -> dict[str, float]:
    return measure(Evidence(prompt=prompt, answer=answer))


def test_a_sound_answer() -> None:
    found = of(GOOD)
    expected = {
        "sums": math.log1p(3), "no sum": 0, "wrong": 0, "dangling": 0, "unsourced": 0, "unused": 0, "all used": 1,
        "unworked": 0, "final": 1, "final is last sum": 1, "final fraction": 0, "final tail": 0, "cut short": 0,
        "times": math.log1p(1), "plus": 0, "hedges": 0, "lines": math.log1p(4), "repeated": 0, "asks left": 1,
        "asks fraction": 1, "asks money": 0,
    }  # fmt: skip
    assert {name: found[name] for name in expected} == pytest.approx(expected)


@pytest.mark.parametrize(
    ("answer", "name", "value"),
    [
        (GOOD.replace("= 360", "= 350"), "wrong", 1),
        (GOOD.replace("= 175", "= 174.5"), "wrong by little", 1),
        (GOOD.replace(" - 5 = 175", " = 180").replace("175", "180"), "unused", math.log1p(1)),
        (GOOD.replace("#### 175", "#### 360"), "final is last sum", 0),
        (GOOD.replace("#### 175", "#### 360"), "dangling", math.log1p(1)),
        (GOOD.replace("#### 175", "#### 17.5"), "final fraction", 1),
        (GOOD.replace("#### 175", "#### -175"), "final negative", 1),
        (GOOD.replace("#### 175", "#### 175 (or so)"), "final tail", 1),
        (GOOD.replace("#### 175", "#### 0"), "final zero", 1),
        (GOOD.replace("360 / 2", "361 / 2"), "unsourced", math.log1p(1)),
        (GOOD[:40], "cut short", 1),
        (GOOD + "\nHowever, there must be a mistake.", "hedges", math.log1p(2 + 0)),
        ("Yes.\nYes.\nYes.\nYes.", "repeated", 0.75),
        ("The answer is 175.", "final", 1),
        ("\\boxed{175}", "final", 1),
        ("175", "final", 0),
        ("175", "no sum", 1),
    ],
)
def test_what_gives_a_bad_answer_away(answer: str, name: str, value: float) -> None:
    assert of(answer)[name] == pytest.approx(value)


def test_percentages_count_as_used_in_any_form() -> None:
    prompt = "A coat of $80 is 25% off. What is its price?"
    assert [of(f"80 * {form} = 60", prompt)["unused"] for form in ("0.75", "75%", "0.25", "25")] == [0, 0, 0, 0]
    assert of("80 * 3 = 240", prompt)["unused"] == pytest.approx(math.log1p(1))


def test_statistics() -> None:
    known = Evidence(mean_logprob=-0.2, least_logprob=-4, agreement=1, quality=0.5, output_tokens=100, second_tokens=50)
    found = measure(known)
    assert (found["mean_logprob"], found["least_logprob"], found["agreement"], found["prior"]) == (-0.2, -4, 1, 0)
    assert found["length>100"] == pytest.approx(math.log(4))
    assert found["second>100"] == pytest.approx(math.log(2))
    assert found["agreement*length>100"] == pytest.approx(math.log(4))
    assert found["length>3200"] == 0


def test_length_is_the_texts_where_there_is_one() -> None:
    assert measure(Evidence(answer="a" * 200, output_tokens=7))["length>100"] == pytest.approx(math.log(2))


def test_the_unknown_is_nan_and_nothing_else_is() -> None:
    assert all(math.isnan(value) for value in measure(Evidence()).values())
    unknown = {name for name, value in of(GOOD).items() if math.isnan(value)}
    told = ("mean_logprob", "least_logprob", "prior", "agreement", "second")
    assert unknown == {name for name in measure(Evidence()) if name.startswith(told)}
    without = {name for name, value in measure(Evidence(answer=GOOD)).items() if math.isnan(value)} - unknown
    assert without >= {"unused", "unsourced", "asks left", "prompt"}
    assert not without & {"wrong", "dangling", "final", "length>100"}


@pytest.mark.parametrize(
    "answer", ["", " ", "\n", "\ud800", "٣ + ٤ = ٧", "१२", "=" * 100, "9" * 500, "1" * 30 + " * " + "9" * 24 + " = 1"]
)
def test_odd_answers_are_measured(answer: str) -> None:
    found = measure(Evidence(prompt=answer, answer=answer))
    assert list(found) == list(measure(Evidence()))
    assert not any(math.isinf(value) for value in found.values())


@given(st.text(max_size=300), st.text(max_size=300))
def test_any_unicode_is_measured(prompt: str, answer: str) -> None:
    assert list(measure(Evidence(prompt=prompt, answer=answer))) == list(measure(Evidence()))
