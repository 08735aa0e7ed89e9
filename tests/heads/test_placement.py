"""How a member without labels gets its vector."""

import numpy as np
import pytest

from router.errors import ConfigError
from router.heads import checkpoint
from router.heads.base import Claim
from router.heads.placement import interpolate, place, size_of


@pytest.fixture
def known(path):
    return checkpoint.read(path)


def test_like(known):
    vectors, bias, placements = place(known, [Claim(name="m", like="MID-9b")])
    np.testing.assert_array_equal(vectors[0], known.vectors[2])
    assert bias[0] == known.bias[2]
    assert (placements[0].by, placements[0].reference) == ("like", "mid-9b")


def test_like_a_model_without_strength(known):
    vectors, _, _ = place(known, [Claim(name="m", like="unplaced")])
    np.testing.assert_array_equal(vectors[0], known.vectors[4])


def test_order_is_the_pools(known):
    _, bias, placements = place(known, [Claim(name="b", like="large-70b"), Claim(name="a", like="tiny-1b")])
    assert bias.tolist() == [known.bias[3], known.bias[0]]
    assert [p.name for p in placements] == ["b", "a"]
    assert bias.dtype == np.float32


def test_unknown_like_names_the_nearest(known):
    with pytest.raises(
        ConfigError,
        match=r"m: like: expected a model of the .*; got 'midd-9b'; did you mean 'mid-9b'\? - at `.*like`",
    ):
        place(known, [Claim(name="m", like="midd-9b")])


def test_by_name_and_by_the_name_of_the_weights(known):
    _, _, placements = place(known, [Claim(name="Tiny-1B"), Claim(name="m", model="org/large-70b/")])
    assert [(p.by, p.reference) for p in placements] == [("name", "tiny-1b"), ("name", "large-70b")]


def test_by_size(known):
    _, bias, placements = place(
        known, [Claim(name="a", model="Qwen/Qwen3-0.6B"), Claim(name="b", model="Qwen/Qwen3-32B")]
    )
    assert [p.by for p in placements] == ["size", "size"]
    assert 0.15 <= placements[0].strength < placements[1].strength <= 0.75
    assert bias[0] < bias[1]


def test_strength_comes_before_name(known):
    _, _, placements = place(known, [Claim(name="tiny-1b", strength=0.6)])
    assert (placements[0].by, placements[0].strength) == ("strength", 0.6)


def test_nothing_known_gives_the_mean(known):
    vectors, bias, placements = place(known, [Claim(name="mystery")])
    assert placements[0].by == "default"
    np.testing.assert_allclose(vectors[0], known.vectors.mean(axis=0), rtol=1e-5)
    assert bias[0] == pytest.approx(known.bias.mean(), abs=1e-6)


def test_strength_without_references(tmp_path, make_parts):
    meta, arrays = make_parts(models=(checkpoint.ModelRecord(name="one"), checkpoint.ModelRecord(name="two")))
    checkpoint.write(tmp_path / "c", meta, arrays)
    with pytest.raises(
        ConfigError, match=r"m: strength: the checkpoint's models have none; .* `like`, one of one, two"
    ):
        place(checkpoint.read(tmp_path / "c"), [Claim(name="m", strength=0.5)])


def test_a_line_is_read_off_exactly():
    strengths = [0.2, 0.35, 0.4, 0.7]
    rows = np.array([[s, 1 - 2 * s] for s in strengths], np.float32)
    for at in (0.2, 0.3, 0.55, 0.7):
        np.testing.assert_allclose(interpolate(rows, strengths, at), [at, 1 - 2 * at], atol=0.01)


def test_far_outside_stays_near_the_edge():
    strengths = [0.4, 0.5, 0.6]
    rows = np.array([[s] for s in strengths], np.float32)
    assert interpolate(rows, strengths, 0.0)[0] == interpolate(rows, strengths, 0.3)[0]
    assert interpolate(rows, strengths, 1.0)[0] == pytest.approx(0.7, abs=0.01)


def test_one_reference_is_copied():
    np.testing.assert_allclose(interpolate(np.array([[3.0, 4.0]], np.float32), [0.5], 0.9), [3.0, 4.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "size_b"),
    [
        ("Qwen3-0.6B", 0.6),
        ("meta-llama-3.1-8b-instruct", 8),
        ("Mixtral-8x7B-Instruct-v0.1", 56),
        ("Qwen3-30B-A3B", 30),
        ("SmolLM2-135M", 0.135),
        ("gemma-2-9b-it", 9),
        ("gpt-4-1106", None),
        ("phi-3-mini-4k", None),
        ("mobilenet", None),
    ],
)
def test_size_of_a_name(name, size_b):
    assert size_of(name) == (None if size_b is None else pytest.approx(size_b))


def test_of_two_below_every_reference_the_larger_is_the_stronger(known):
    _, bias, placements = place(known, [Claim(name="m-135m"), Claim(name="m-500m"), Claim(name="m-0.9b")])
    strengths = [placement.strength for placement in placements]
    assert strengths == sorted(set(strengths))
    assert all(placement.guessed for placement in placements)
    assert bias[0] < bias[1] < bias[2]


def test_a_counted_size_is_used_where_no_name_tells_one(known):
    _, _, placements = place(known, [Claim(name="m", size_b=70), Claim(name="m-2b", size_b=70), Claim(name="n-70b")])
    assert placements[0].by == "size"
    assert placements[0].strength == placements[2].strength
    assert placements[1].strength < placements[0].strength
