"""The judged head: its question, the reading of an answer, and what a verdict means for each model."""

import json
import math

import msgspec
import numpy as np
import pytest

from router import Router
from router.artefacts.artefact import FORMAT, Metadata, ModelRecord
from router.config import Member
from router.errors import ConfigError
from router.heads import Artefact, Claim, load, make, write
from router.heads.base import JudgedHead
from router.heads.methods.causal_llm import Question, key_of, verdict
from router.heads.methods.ensemble import packed

CLAIMS = [Claim(name="a", like="tiny"), Claim(name="b", like="big")]
KNOWN = {"what is 1 + 2 ?": 4.5, "why is 7 like 9 ?": 1.25}


def artefact(options=None, **arrays):
    all_arrays = {
        "bias": np.array([-0.5, 1.0], np.float32),
        "slope": np.array([1.0, 0.25], np.float32),
        "known.key": np.array([key_of(text) for text in KNOWN], np.uint64),
        "known.verdict": np.array(list(KNOWN.values()), np.float32),
        **arrays,
    }
    meta = Metadata(
        format=FORMAT,
        models=(ModelRecord(name="tiny"), ModelRecord(name="big")),
        router="causal_llm",
        options={"judge": "tiny-1b", "unasked": 3.0, **(options or {})},
    )
    return Artefact(meta=meta, arrays={name: array for name, array in all_arrays.items() if array is not None})


def answer(first, top=()):
    tops = [{"token": token, "logprob": logprob, "bytes": None} for token, logprob in top]
    content = [{"token": first[0], "logprob": first[1], "bytes": None, "top_logprobs": tops}]
    choice = {"index": 0, "message": {"role": "assistant", "content": first[0]}, "logprobs": {"content": content}}
    return json.dumps({"id": "x", "choices": [choice], "usage": {"prompt_tokens": 3}}).encode()


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def test_a_verdict_is_the_expected_score():
    half, quarter = math.log(0.5), math.log(0.25)
    assert verdict(answer(("4", half), [("4", half), ("1", quarter), ("the", math.log(0.2))])) == pytest.approx(3.0)
    assert verdict(answer((" 5", half))) == pytest.approx(5.0)
    assert verdict(answer(("2", half), [(" 2", half), ("3", half), ("2", half)])) == pytest.approx((2 + 2 + 3) / 3)
    assert verdict(answer(("6", -0.1), [("0", -0.2), ("12", -3.0), ("²", -4.0), ("1", -9.0)])) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        (b"", "not understood"),
        (b"\xff", "not understood"),
        (b'{"choices": []}', "no log-probabilities"),
        (b'{"choices": [{"logprobs": null}]}', "no log-probabilities"),
        (b'{"choices": [{"logprobs": {"content": []}}]}', "no log-probabilities"),
        (answer(("<think>", 0.0), [("0", -3.0)]), "hold no score: '<think>' and 1 more"),
        (answer(("3", -9999.0)), "hold no score: '3'"),
    ],
)
def test_an_answer_without_a_verdict(given, match):
    with pytest.raises(ValueError, match=match):
        verdict(given)


def test_the_question_is_one_token_with_its_alternatives():
    body = json.loads(Question(judge="tiny-1b").ask("{query} what?"))
    content = body["messages"][0]["content"]
    assert "Question:\n{query} what?\n\nDigit:" in content
    assert (body["max_tokens"], body["temperature"], body["logprobs"], body["top_logprobs"]) == (1, 0, True, 20)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    plain = json.loads(Question(template="Q {query}", body={"seed": 1}, max_chars=10).ask("0123456789" * 3))
    assert plain["messages"] == [{"role": "user", "content": "Q 01234\n[...]\n56789"}]
    assert "chat_template_kwargs" not in plain
    assert plain["seed"] == 1


def test_a_verdict_means_what_was_fitted():
    head = make(artefact(), CLAIMS)
    assert isinstance(head, JudgedHead)
    assert head.slow
    assert head.judge == "tiny-1b"
    scores = head.score_by((("anything", 1.0),), answer(("5", -0.1)))
    assert scores.quality == pytest.approx((sigmoid(-0.5 + 2.0), sigmoid(1.0 + 0.5)), abs=1e-6)
    assert scores.prompt_tokens == 2


def test_known_verdicts_need_no_judge_and_others_are_the_mean():
    head = make(artefact(), CLAIMS)
    for text, value in KNOWN.items():
        quality = head.score(((text, 1.0),)).quality
        assert quality == pytest.approx((sigmoid(-0.5 + value - 3), sigmoid(1.0 + 0.25 * (value - 3))), abs=1e-6)
        assert head.question(((text, 1.0),)) is None
        assert head.score_by(((text, 1.0),), answer(("1", 0.0))) != head.score(((text, 1.0),))
    assert head.score((("unheard of", 1.0),)).quality == pytest.approx((sigmoid(-0.5), sigmoid(1.0)), abs=1e-6)
    assert head.question((("unheard of", 1.0),)) is not None


def test_one_query_is_scored_as_it_is_among_many():
    head = make(artefact(), CLAIMS)
    assert head.score_many([]).shape == (0, 2)
    texts = [*KNOWN, "", "\ud800", "other"]
    for text, row in zip(texts, head.score_many(texts), strict=True):
        np.testing.assert_array_equal(np.float32(head.score(((text, 1.0),)).quality), row)


def test_decisions_need_no_judge_at_hand(tmp_path):
    made = artefact(slope=np.array([2.0, 0.25], np.float32))
    write(tmp_path / "j.safetensors", made)
    pool = [Member(name="a", like="tiny"), Member(name="b", like="big")]
    decider = Router.decider(pool, checkpoint=str(tmp_path / "j.safetensors"), price=0.0)
    texts = [*KNOWN, "other"]
    evaluated = make(made, CLAIMS).score_many(texts)
    assert evaluated.argmax(1).tolist() == [0, 1, 1]
    assert [decider.decide(text).member for text in texts] == [0, 1, 1]


def test_a_conversation_is_shown_whole():
    head = make(artefact(), CLAIMS)
    question = head.question((("You are kind.", 0.1), ("Why?", 1.0)))
    assert "You are kind.\n\nWhy?" in json.loads(question)["messages"][0]["content"]


def test_a_file_is_read_as_it_was_written(tmp_path):
    made = artefact()
    write(tmp_path / "j.safetensors", made)
    read, texts = load(tmp_path / "j.safetensors", CLAIMS), [*KNOWN, "other"]
    np.testing.assert_array_equal(read.score_many(texts), make(made, CLAIMS).score_many(texts))
    assert read.question((("other", 1.0),)) == make(made, CLAIMS).question((("other", 1.0),))


@pytest.mark.parametrize(
    ("options", "arrays", "match"),
    [
        ({}, {"slope": None}, r"j\.safetensors: slope: expected this tensor"),
        ({}, {"slope": np.array([1, -0.1], np.float32)}, r"slope: expected numbers of 0 or more, got -0\.1"),
        ({}, {"bias": np.zeros(3, np.float32)}, r"bias: expected shape \[2\]"),
        ({}, {"known.key": None}, r"known\.key: expected this tensor"),
        ({}, {"known.verdict": np.ones(1, np.float32)}, r"known\.verdict: expected shape \[2\]"),
        ({}, {"known.verdict": np.array([0, 3], np.float32)}, r"known\.verdict: expected numbers from 1 to 5"),
        ({"template": "no place"}, {}, r"options\.template: expected a text with \{query\} in it"),
        ({"unasked": 7.0}, {}, r"options\.unasked: expected 1 to 5, got 7\.0"),
        ({"jugde": "x"}, {}, r"options: Object contains unknown field `jugde`"),
    ],
)
def test_a_broken_file_is_refused(tmp_path, options, arrays, match):
    made = artefact(options, **arrays)
    write(tmp_path / "j.safetensors", made)
    with pytest.raises(ConfigError, match=match):
        load(tmp_path / "j.safetensors", CLAIMS)


def test_without_known_verdicts_a_file_is_whole():
    head = make(artefact(**{"known.key": None, "known.verdict": None}), CLAIMS)
    assert head.question(((next(iter(KNOWN)), 1.0),)) is not None
    assert msgspec.structs.asdict(head.placements[0])["reference"] == "tiny"


def test_an_ensemble_asks_for_its_judged_part():
    """What it says by a verdict is what it says of a prompt whose verdict it knows."""
    judged, other = (
        artefact(),
        Artefact(
            meta=Metadata(format=FORMAT, models=artefact().meta.models, router="random", options={"seed": 3}),
            arrays={"bias": np.zeros(2, np.float32)},
        ),
    )
    parts = [judged, other]
    meta = Metadata(
        format=FORMAT,
        models=judged.meta.models,
        router="ensemble",
        options={"parts": [msgspec.to_builtins(part.meta) for part in parts], "weights": [0.7, 0.3]},
    )
    head = make(Artefact(meta=meta, arrays=packed(parts)), CLAIMS)
    assert isinstance(head, JudgedHead)
    assert (head.judge, head.slow) == ("tiny-1b", True)
    text, value = next(iter(KNOWN.items()))
    assert head.question(((text, 1.0),)) is None
    assert head.question((("new", 1.0),)) == make(judged, CLAIMS).question((("new", 1.0),))
    weights = [("5", math.log(value - 4)), ("4", math.log(5 - value))]
    by_answer = head.score_by(((text, 1.0),), answer(weights[0], weights))
    np.testing.assert_allclose(by_answer.quality, head.score_many([text])[0], atol=1e-6)
    assert head.score_by(((text, 1.0),), answer(("1", 0.0))).quality[0] < by_answer.quality[0]
    flat = msgspec.structs.replace(meta, options={**meta.options, "weights": [0.0, 1.0]})
    assert not isinstance(make(Artefact(meta=flat, arrays=packed(parts)), CLAIMS), JudgedHead)
