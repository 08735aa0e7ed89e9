"""Lengths of answers, learnt where a table tells them: found, served as measured, left out where nothing is gained."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import pytest

from router import heads
from router.errors import ConfigError
from router.heads import Claim
from router.learn.fit.recipe import SIZES
from router.learn.fit.training import Report, run

SMALL = SIZES["small"]
Row = dict[str, object]
Tokens = Callable[[random.Random, str, str], Row]


def rows(tokens: Tokens, prompts: int = 300) -> list[Row]:
    """Lists are answered at length, sums in short; `big` says twice as much as `tiny`."""
    rng, out = random.Random(0), []
    for i in range(prompts):
        listed = rng.random() < 0.5
        text = f"List all towns near number {i}" if listed else f"What is {rng.randint(1, 999)} + {i}?"
        for model in ("tiny", "big"):
            score = float(rng.random() < (0.9 if model == "big" else 0.2 if listed else 0.7))
            out.append({"prompt": text, "model": model, "score": score, **tokens(rng, text, model)})
    return out


def number(rng: random.Random, text: str, model: str) -> float:
    mean = (200 if text.startswith("List") else 10) * (2 if model == "big" else 1)
    return max(1, round(mean * math.exp(rng.gauss(0, 0.2))))


def telling(rng: random.Random, text: str, model: str) -> Row:
    return {"output_tokens": number(rng, text, model)}


def at_random(rng: random.Random, text: str, model: str) -> Row:
    return {"output_tokens": rng.randint(1, 500)}


def silent(rng: random.Random, text: str, model: str) -> Row:
    rng.random()
    return {}


def in_characters(rng: random.Random, text: str, model: str) -> Row:
    return {"output_chars": 4 * number(rng, text, model)}


def in_both(rng: random.Random, text: str, model: str) -> Row:
    """Of six characters a token, as the few rows say that tell both."""
    tokens = number(rng, text, model)
    return {"output_chars": 6 * tokens} | ({"output_tokens": tokens} if rng.random() < 0.2 else {})


def of_big_only(rng: random.Random, text: str, model: str) -> Row:
    return telling(rng, text, model) if model == "big" else {}


def train(folder: Path, tokens: Tokens, **change: object) -> tuple[Path, Report]:
    folder.mkdir(exist_ok=True)
    table, out = folder / "t.jsonl", folder / "r.safetensors"
    told = [row | change for row in rows(tokens)]
    table.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in told))
    return out, run([table], out, SMALL, command="headgate train t.jsonl")


POOL = [Claim(name="tiny"), Claim(name="big")]
LIST, SUM = [("List all towns near number 7", 1.0)], [("What is 345 + 80?", 1.0)]


@pytest.mark.parametrize("tokens", [telling, in_characters, in_both], ids=["tokens", "characters", "both"])
def test_lengths_that_follow_from_the_prompt_are_learnt_and_served(tmp_path: Path, tokens: Tokens) -> None:
    out, report = train(tmp_path, tokens)
    head = heads.load(out, POOL)
    listed, summed = head.score(LIST), head.score(SUM)
    assert listed.output_tokens == pytest.approx((200, 400), rel=0.2)
    assert summed.output_tokens == pytest.approx((10, 20), rel=0.25)
    assert listed.output_log_sd == pytest.approx((0.2, 0.2), abs=0.08)
    for held in report.lengths:
        assert held.kept
        assert held.answers == 300
        assert held.error < 0.25 < 0.5 < held.error_mean
        assert held.correlation > 0.97
        assert held.level == pytest.approx(1, abs=0.1)
        assert heads.read(out).meta.figures[f"{held.model}:output_tokens:error"] == round(held.error, 4)


@pytest.mark.parametrize("tokens", [at_random, silent], ids=["at random", "no column"])
def test_lengths_that_do_not_are_left_out_of_the_checkpoint(tmp_path: Path, tokens: Tokens) -> None:
    out, report = train(tmp_path, tokens)
    assert not any(held.kept for held in report.lengths)
    assert set(heads.read(out).arrays) == {"table", "vocab", "vectors", "bias"}
    assert heads.load(out, POOL).score(LIST).output_tokens == ()


def test_the_quality_is_that_of_a_table_without_lengths_to_the_bit(tmp_path: Path) -> None:
    ours, plain = (train(tmp_path / name, telling, **change)[0] for name, change in (
        ("a", {}), ("b", {"output_tokens": None}),
    ))  # fmt: skip
    for segments in (LIST, SUM, [("", 1.0)]):
        mine, other = (heads.load(path, POOL).score(segments) for path in (ours, plain))
        assert mine.quality == other.quality
        assert other.output_tokens == () != mine.output_tokens


def test_a_model_whose_lengths_no_row_tells_has_none_beside_one_that_has(tmp_path: Path) -> None:
    out, report = train(tmp_path, of_big_only)
    assert [held.model for held in report.lengths] == ["big"]
    scores = heads.load(out, POOL).score(LIST)
    assert scores.output_tokens == pytest.approx((0, 400), rel=0.2)
    assert scores.output_log_sd[0] == 0.0


def test_held_out_figures_are_printed_beside_those_of_the_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from router.cli.main import main

    table = tmp_path / "t.jsonl"
    table.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in rows(telling)))
    assert main(["train", str(table), "--out", str(tmp_path / "r.safetensors"), "--size", "small"]) == 0
    shown = capsys.readouterr().out
    assert (
        "Output tokens, held out (median error, beside that of the model's mean; deviation of the logarithm):" in shown
    )
    assert "  tiny (300 answers): 1" in shown


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-3, "output_tokens: expected a number of 0 or more, got -3"),
        (1e12, "output_tokens: expected at most 1073741824 tokens, got 1000000000000"),
        ("many", "output_tokens: expected a number of 0 or more, got 'many'"),
    ],
)
def test_a_length_that_is_none_is_refused_by_file_row_and_key(tmp_path: Path, value: object, message: str) -> None:
    table = tmp_path / "t.jsonl"
    table.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in [*rows(telling, 3), {
        "prompt": "a", "model": "tiny", "score": 1.0, "output_tokens": value,
    }]))  # fmt: skip
    with pytest.raises(ConfigError, match=message) as refused:
        run([table], tmp_path / "r.safetensors", SMALL)
    assert "t.jsonl:7: " in str(refused.value)


def test_empty_answers_and_unknown_lengths_are_left_out(tmp_path: Path) -> None:
    def patchy(rng: random.Random, text: str, model: str) -> Row:
        return {"output_tokens": rng.choice([0, math.nan]) if rng.random() < 0.3 else number(rng, text, model)}

    folder = tmp_path / "x"
    folder.mkdir()
    from router.learn.data import outcomes
    from router.learn.data.corpus import join
    from router.learn.fit.lengths import logs_of

    table = folder / "t.jsonl"
    known = [row for row in rows(patchy) if row["output_tokens"] == row["output_tokens"]]
    table.write_bytes(b"".join(msgspec.json.encode(row) + b"\n" for row in known))
    tables = [outcomes.read(table)]
    logs = logs_of(tables, join(tables))
    assert np.isfinite(logs).sum() == sum(1 for row in known if row["output_tokens"])
    assert np.nanmin(logs) >= 0
