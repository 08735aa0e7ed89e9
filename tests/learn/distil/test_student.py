"""The static embedding's fit: which pieces it has, and that fitting brings texts nearer to where they are wanted."""

import numpy as np
import pytest

from router.learn.data.outcomes import Prompt
from router.learn.distil import prompts, student

TOKENS = [
    "[PAD]", "[unused0]", "[UNK]", "the", "cat", "dog", "##s", "law", "court", "##!", "!", "##北", "北", "É", "run",
    "##ning",
]  # fmt: skip


@pytest.fixture(scope="module")
def pieces():
    return student.reachable(TOKENS)


def test_entries_that_no_text_is_split_into_are_left_out(pieces):
    kept = [TOKENS[i] for i in pieces.ids]
    assert kept == ["[UNK]", "the", "cat", "dog", "##s", "law", "court", "!", "北", "run", "##ning"]
    assert kept[pieces.unknown] == "[UNK]"
    assert pieces.spec.rows == len(kept)


def test_texts_become_counts_of_their_distinct_words_pieces(pieces):
    kept = [TOKENS[i] for i in pieces.ids]
    bag = student.pooled(pieces, ["cats dogs cats the the", "", "law"]).toarray()
    expected = np.zeros((3, len(kept)))
    for piece, count in {"cat": 1, "dog": 1, "##s": 2, "the": 1}.items():
        expected[0, kept.index(piece)] = count
    expected[2, kept.index("law")] = 1
    np.testing.assert_array_equal(bag, expected)


def places(bag, seed):
    """Two subjects: animals lie along one axis, the law along another."""
    draw = np.random.default_rng(seed)
    animals = bag[:, [2, 3]].toarray().sum(1) > 0
    out = draw.normal(0, 0.05, (bag.shape[0], 8)).astype(np.float32)
    out[np.arange(len(out)), np.where(animals, 0, 1)] += 1
    return out / np.linalg.norm(out, axis=1, keepdims=True)


def test_fitting_brings_texts_that_were_not_fitted_to_nearer_to_their_places(pieces):
    draw = np.random.default_rng(0)
    subjects = (["cat", "dog", "cats", "dogs"], ["law", "court", "laws", "courts"])
    texts = [
        f"the {' '.join(draw.choice(subjects[i % 2], 2))} {draw.choice(['run', 'running', '!'])}" for i in range(200)
    ]
    bag = student.pooled(pieces, texts)
    begun = np.random.default_rng(1).normal(0, 1, (pieces.spec.pieces, 8)).astype(np.float32)
    fitted = student.fit(bag, places(bag, 2), begun)
    assert fitted.cosine > max(0.9, fitted.start + 0.2)
    assert fitted.ridge in student.RIDGES


def test_pieces_of_no_text_keep_their_start(pieces):
    bag = student.pooled(pieces, ["cat", "dog", "law", "court"] * 10)
    begun = np.random.default_rng(1).normal(0, 1, (pieces.spec.pieces, 8)).astype(np.float32)
    fitted = student.fit(bag, places(bag, 2), begun)
    np.testing.assert_allclose(fitted.vectors[9], begun[9], atol=1e-6)


def test_frequent_pieces_begin_with_less_weight_and_the_unknown_with_none():
    begun = student.start(np.eye(3, dtype=np.float32), np.array([1000.0, 1.0, 10.0]), unknown=2)
    lengths = np.linalg.norm(begun, axis=1)
    assert lengths[0] < lengths[1] / 10
    assert lengths[2] == 0


def test_reducing_keeps_cosines_where_the_texts_lie_in_few_directions(pieces):
    texts = ["cat dog", "law court the", "cat law", "dogs run"]
    bag = student.pooled(pieces, texts)
    vectors = np.zeros((pieces.spec.pieces, 8), np.float32)
    vectors[:, :3] = np.random.default_rng(1).normal(0, 1, (pieces.spec.pieces, 3))
    turned = vectors @ np.linalg.qr(np.random.default_rng(2).normal(0, 1, (8, 8)))[0].astype(np.float32)
    few = student.reduced(turned, bag, 3)
    assert few.shape == (pieces.spec.pieces, 3)
    np.testing.assert_allclose((bag @ few) @ (bag @ few).T, (bag @ turned) @ (bag @ turned).T, atol=1e-4)


def test_bytes_are_within_half_a_step_of_the_numbers_and_zeros_stay_zeros():
    vectors = np.random.default_rng(0).normal(0, 1, (5, 64)).astype(np.float32)
    vectors[3] = 0
    rows, scales = student.as_bytes(vectors)
    assert rows.dtype == np.int8
    assert scales.dtype == np.float32
    assert (np.abs(rows * scales[:, None] - vectors) <= scales[:, None] * 0.5001).all()
    assert not rows[3].any()
    assert scales[3] == 0


class Table:
    def __init__(self, made):
        self.prompts = made


def test_wordings_of_one_question_are_all_held_out_or_none_of_them():
    made = [Prompt(id=f"{i:04x}", group=f"g{i // 4}", task="t", text=str(i)) for i in range(4000)]
    fitted, held = prompts.chosen([Table(made)], 9999), prompts.held_out([Table(made)], 9999)
    assert {p.group for p in fitted}.isdisjoint({p.group for p in held})
    assert len(fitted) + len(held) == 4000
    assert 0.07 < len(held) / 4000 < 0.14
    assert [p.id for p in prompts.chosen([Table(made)], 3)] == sorted(p.id for p in fitted)[:3]
