"""What `bench/embedding.py` says of a contestant, on places whose answer is known."""

import embedding
import numpy as np
import pytest

TASKS = np.array(["one", "two"] * 20)


def circle(count=40):
    """Points on half a circle: each text's nearest are its neighbours."""
    angle = np.linspace(0, np.pi, count)
    return np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)


def test_the_judge_itself_agrees_fully():
    found = embedding.compared(circle(), circle(), TASKS)
    assert found["spearman"] == 1
    assert found["nearest_agreement"] == 1
    assert found["same_task"] < 0.1  # neighbours are of the other task


def test_places_at_random_agree_no_more_than_by_chance():
    found = embedding.compared(embedding.unit(np.random.default_rng(0).normal(size=(40, 2))), circle(), TASKS)
    assert abs(found["spearman"]) < 0.2
    assert found["nearest_agreement"] < 0.45  # 10 of 39


def test_a_text_is_not_its_own_neighbour():
    assert not (embedding.nearest(circle(), 10) == np.arange(40)[:, None]).any()


@pytest.mark.parametrize(("scale", "expected"), [(1, 1), (-1, -1)])
def test_spearman_reads_ranks_only(scale, expected):
    x = np.random.default_rng(0).normal(size=50)
    assert embedding.spearman(x, scale * x**3) == pytest.approx(expected)
