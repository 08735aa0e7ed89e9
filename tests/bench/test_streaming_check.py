"""The check that `lost` rests on: every way in which a stream can be wrong is counted."""

import json

import client
import pytest
import streaming


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
