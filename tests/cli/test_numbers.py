"""Numbers out of range are refused where the flag is read: the flag, the value, and what is allowed."""

import pytest

from router.cli import numbers
from router.cli.main import main

TRAIN, EVAL = ["train", "t.jsonl", "--out", "x"], ["eval", "t.jsonl"]
CALIBRATE = ["calibrate", "c.yaml", "--on", "p.txt"]
SEED = "a whole number from 0 to 4294967295"
COUNT = "a whole number from 1 to 2147483647"
FOLDS = "a whole number from 2 to 50"
SHARE = "0 to 1 or a percentage"


@pytest.mark.parametrize(
    ("words", "flag", "value", "allowed"),
    [
        *((verb, "--folds", value, FOLDS) for verb in (TRAIN, EVAL) for value in ("1", "51", "-2", "x", "2.5", "")),
        *((verb, "--seed", value, SEED) for verb in (TRAIN, EVAL) for value in ("-1", "4294967296", "9" * 5000, "nan")),
        *((EVAL, "--prompts", value, COUNT) for value in ("0", "-3", "2147483648", "many", "1_000", "\u0663")),
        *((EVAL, "--draws", value, "a whole number from 1 to 100000") for value in ("0", "-1", "100001", "nan")),
        *((EVAL, "--learning-curve", value, "whole numbers from 1, as in") for value in ("0", "16,-1", "16,,", "nan")),
        *((EVAL, "--cpt", value, "percentages above 0 and up to 100") for value in ("0", "-5", "nan", "inf", "101")),
        *((CALIBRATE, "--large-share", value, SHARE) for value in ("1.5", "-0.1", "150%", "nan", "nan%", "inf", "x")),
        *((CALIBRATE, "--quality", value, "0 to 2 or a percentage") for value in ("2.1", "-1", "nan", "inf%")),
        *((CALIBRATE, "--budget", value, "dollars for a number") for value in ("nan/1k", "-1/1k", "1/0", "inf/1k")),
        *((CALIBRATE, "--budget", value, "at most 1e+09 dollars") for value in ("9" * 20 + "/1", "1" * 30 + ".5/1k")),
    ],
)  # fmt: skip
def test_a_number_out_of_range_is_refused(
    capsys: pytest.CaptureFixture[str], words: list[str], flag: str, value: str, allowed: str
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main([*words, f"{flag}={value}"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert f"argument {flag}: expected {allowed}" in said
    assert repr(value)[:40] in said


@pytest.mark.parametrize("value", ["nan", "-0.1", "1.1", "inf"])
def test_a_strength_out_of_range_is_refused(capsys: pytest.CaptureFixture[str], value: str) -> None:
    assert main([*TRAIN, "--add-model", "m", "--base", "default", f"--strength={value}"]) == 2
    assert f"--strength: expected 0 to 1, got {value}" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["nan", "inf", "-1", "1e300", "1/nan", "1/-1"])
def test_a_price_out_of_range_is_refused(capsys: pytest.CaptureFixture[str], value: str) -> None:
    assert main([*EVAL, "--price", f"m={value}"]) == 2
    assert f"--price m: expected a price of 0 or more, up to 1e+09, got '{value}'" in capsys.readouterr().err


def test_numbers_in_range_are_read() -> None:
    assert numbers.whole(1)("7") == 7
    assert numbers.folds("50") == 50
    assert numbers.seed("0") == 0
    assert numbers.whole(-3, 3)("-3") == -3
