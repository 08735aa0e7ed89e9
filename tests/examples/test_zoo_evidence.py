"""The zoo's evidence script: statistics of a distribution, rows that `headgate train --router verifier` reads."""

import json
from types import SimpleNamespace

import evidence
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tasks

from router.learn.verifier.answered import answered
from router.verify import judging
from router.verify.evidence import Evidence
from router.watched import Figures


def test_statistics_of_a_distribution_by_hand():
    chances = np.array([0.5, 0.25, 0.25, 0.0])
    with np.errstate(divide="ignore"):
        found = evidence.statistics(np.log(chances))
    assert found == pytest.approx([np.log(0.5), 1.5 * np.log(2), np.log(2)])


def test_a_sure_token_has_a_margin_that_fits_the_file():
    found = evidence.statistics(np.array([1e-9, -np.inf, -np.inf]))
    assert found == pytest.approx([0, 0, 87])


def test_distributions_are_read_by_token_id():
    flat = SimpleNamespace(  # as vLLM's `FlatLogprobs`
        start_indices=[0, 3], end_indices=[3, 6], token_ids=[1, 0, 2, 2, 1, 0],
        logprobs=[-1.0, -2.0, -3.0, -0.5, -1.5, -2.5],
    )  # fmt: skip
    assert evidence.distribution(flat, 0).tolist() == [-2, -1, -3]
    assert evidence.distribution(flat, 1).tolist() == [-2.5, -1.5, -0.5]


def test_no_question_is_in_the_workload(zoo):
    asked = evidence.questions(480, 13)
    workload = {json.loads(line)["prompt"] for line in (zoo / "workload.jsonl").read_text().splitlines()}
    assert len(asked) == 480
    assert {question.split for question in asked} == {"test"}  # no model learnt from them
    assert not workload & {question.prompt for question in asked}
    assert {question.task for question in asked} == set(tasks.TASKS)


def test_rows_are_read_as_they_were_seen(tmp_path):
    asked = evidence.questions(40, 13)
    first_ids = np.array([2, 0, 1], np.int32)
    seen = np.array([[-0.5, 1.0, 2.0], [-0.25, 0.5, 4.0]])
    told = [evidence.Answer(question.answer, 9, "stop", seen, np.array([-1.0, -2.0, -3.04])) for question in asked]
    rows = [row for name in ("zoo-small", "zoo-large") for row in evidence.rows(asked, name, told, first_ids)]
    schema = evidence.SCHEMA.with_metadata({"first_logits_token_ids": json.dumps(first_ids.tolist())})
    pq.write_table(pa.Table.from_pylist(rows, schema), tmp_path / "evidence.parquet")
    known = answered([tmp_path / "evidence.parquet"])
    assert known.models == ("zoo-small", "zoo-large")
    assert known.right.tolist() == [1.0] * 80
    figures = known.evidence[0].figures
    assert figures is not None
    assert (figures.tokens, figures.least_logprob, figures.mean_entropy, figures.least_margin) == (2, -0.5, 0.75, 2.0)
    assert known.evidence[0].finish_reason == "stop"
    assert known.first[0] == pytest.approx((-3.0625, -1.0, -2.0))
    assert known.first[40] == ()
    assert known.first_ids == (2, 0, 1)


def test_the_kept_verifier_tells_a_sure_answer_from_an_unsure_one(zoo):
    judge = judging.load(zoo / "verifier.safetensors")
    sure, unsure = (
        Evidence.of("27+82=", "7+2=9 2+8=10 so 109", Figures(
            tokens=20, mean_logprob=-nats / 9, least_logprob=-nats, recent_logprob=-nats / 9, mean_entropy=nats / 9,
            recent_entropy=nats / 9, mean_margin=6 / (1 + nats), least_margin=1 / (1 + nats),
            recent_margin=6 / (1 + nats), first_logprob=-nats / 9, first_entropy=nats / 9,
        ), "stop")
        for nats in (0.01, 1.0)
    )  # fmt: skip
    assert judge.quality(0.6, unsure, "zoo-small") < 0.5 < 0.8 < judge.quality(0.6, sure, "zoo-small")
    assert set(judge.gains) == {"cascade", "handoff", "first"}
    assert judge.running(0.6, "zoo-small").tokens
