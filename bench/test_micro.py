"""Micro-benchmarks of the scorer and the decision under pytest-benchmark: `make bench`."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import decision

from router.heads import DEFAULT, load
from router.heads.checkpoint import read
from router.native.scorer import Encoder, Scorer, isas

WORDS = decision.prose()
SHORT = decision.windows(WORDS, decision.SHORT, 1)[0]
LONG = decision.windows(WORDS, decision.LONG, 1)[0]


@pytest.fixture(scope="module")
def checkpoint():
    return read(DEFAULT)


@pytest.mark.parametrize("models", [2, 32])
@pytest.mark.parametrize("text", [SHORT, LONG], ids=["100 words", "8000 words"])
def test_decide(benchmark, models, text):
    benchmark(decision.decider("default", models), decision.query(text))


@pytest.mark.parametrize("isa", isas())
def test_score(benchmark, checkpoint, isa):
    encoder = Encoder(checkpoint.encoder, checkpoint.vocab)
    benchmark(Scorer(encoder, checkpoint.table, checkpoint.vectors, checkpoint.bias, isa).score, ((SHORT, 1.0),))


def test_tokenise(benchmark, checkpoint):
    benchmark(Encoder(checkpoint.encoder, checkpoint.vocab).pieces, SHORT)


def test_load(benchmark):
    benchmark(load, "default", decision.claims(2))


def test_numpy_twin(benchmark):
    head = load("default", decision.claims(2), kind="mf_numpy")
    benchmark.pedantic(head.score, args=(((SHORT, 1.0),),), rounds=5)
