"""The check that `lost` rests on: every way in which a stream can be wrong is counted."""

import json
import subprocess
import sys

import instructions
import pytest
import streaming

from router.learn.bench import client


def answer(numbers, *, done=True, status=200):
    made = client.Answer()
    made.status = status
    deltas = [f" {number}" for number in numbers] + [""]
    events = ["data: " + json.dumps({"choices": [{"delta": {"content": delta}}]}) for delta in deltas]
    made.parts = ["\n\n".join(events + ["data: [DONE]"] * done).encode() + b"\n\n"]
    return made


@pytest.mark.parametrize(
    ("numbers", "received", "lost"),
    [
        ([0, 1, 2, 3], 4, 0),
        ([0, 1, 2], 3, 1),  # dropped at the end
        ([0, 2, 3], 3, 3),  # dropped midway: what follows is out of its place
        ([0, 1, 1, 2, 3], 5, 3),  # doubled
        ([0, 2, 1, 3], 4, 2),  # reordered
        ([0, 1, 2, 3, 4], 5, 1),  # more than asked for
        ([], 0, 4),
    ],
)
def test_tokens_out_of_place_are_lost(numbers, received, lost):
    assert streaming.check(answer(numbers), 4) == (received, lost)


def test_a_stream_that_does_not_end_well_has_lost_something():
    assert streaming.check(answer([0, 1, 2, 3], done=False), 4) == (4, 1)
    assert streaming.check(answer([0, 1, 2, 3], status=500), 4) == (4, 1)


def samples(**lost):
    return {int(level[1:]): [streaming.Sample(10, each, 5.0, 1.0, 1.0, 1.0)] for level, each in lost.items()}


def test_lost_is_what_64_and_512_streams_lost_together():
    found = streaming.figures(samples(_16=100, _64=2, _512=3), 32)
    assert (found["lost"], found["lost_any_level"]) == (5, 105)
    assert found["instructions_ratio"] is None


def test_the_ratio_of_instructions_is_ours_to_the_other_checkouts(tmp_path, monkeypatch):
    asked = []

    def measure(roots, kinds, keep):
        asked.append((roots, kinds))
        return [{"token_of_64_streams": 918.0, "host_token_of_64_streams": 1.0}, {"token_of_64_streams": 900.0}]

    monkeypatch.setattr(instructions, "measure", measure)
    counted = instructions.compare(tmp_path, streaming.COUNTED)
    assert asked == [([streaming.report.ROOT, tmp_path], "token_of_64_streams")]
    assert streaming.figures(samples(_64=0, _512=0), 32, counted)["instructions_ratio"] == 1.02


def test_without_valgrind_a_comparison_of_instructions_is_refused_before_anything_is_measured(root, tmp_path):
    command = [sys.executable, str(root / "bench" / "streaming.py"), "--quick", "--base", str(tmp_path)]
    done = subprocess.run(
        command, env={"PATH": str(tmp_path), "PYTHONPATH": str(root)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "valgrind is missing: apt-get install valgrind" in done.stderr
