"""The static embedding's fit: which pieces it has, and that fitting brings texts nearer to where they are wanted."""

import numpy as np
import pytest

from router.errors import ConfigError
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


def test_pieces_that_no_text_has_are_left_out_first_and_of_these_the_last_of_the_vocabulary(pieces):
    counts = np.array([0, 9, 5, 4, 0, 0, 3, 0, 0, 0, 0.0])  # of [UNK] the cat dog ##s law court ! 北 run ##ning
    room = student.HEADER_BYTES + pieces.vocab.nbytes + 9 * (64 + student.SCALE_BYTES)
    kept, rows = student.most_used(TOKENS, pieces, counts, 64, room)
    assert [TOKENS[i] for i in kept.ids] == ["[UNK]", "the", "cat", "dog", "##s", "law", "court", "!", "北"]
    assert [TOKENS[i] for i in pieces.ids[rows]] == [TOKENS[i] for i in kept.ids]
    assert (kept.spec.pieces, kept.unknown) == (9, 0)


def test_a_word_whose_piece_was_left_out_is_split_into_shorter_ones(pieces):
    tokens = [*TOKENS, "runs"]
    whole = student.reachable(tokens)
    counts = np.arange(len(whole.ids), 0, -1).astype(np.float64)
    room = student.HEADER_BYTES + whole.vocab.nbytes + (len(whole.ids) - 1) * (64 + student.SCALE_BYTES)
    kept, rows = student.most_used(tokens, whole, counts, 64, room)
    assert "runs" not in [tokens[i] for i in kept.ids]
    split = [tokens[kept.ids[i]] for i in student.pooled(kept, ["runs"]).indices]
    assert sorted(split) == ["##s", "run"]
    text = ["the cat runs"]
    np.testing.assert_array_equal(
        student.pooled(kept, ["the cat"]).toarray()[0], student.pooled(whole, ["the cat"]).toarray()[0][rows]
    )
    assert student.pooled(kept, text).sum() == student.pooled(whole, text).sum() + 1


def test_with_room_for_all_pieces_none_is_left_out(pieces):
    kept, rows = student.most_used(TOKENS, pieces, np.zeros(len(pieces.ids)), 64, 1 << 20)
    assert kept is pieces
    np.testing.assert_array_equal(rows, np.arange(len(pieces.ids)))


def test_a_bound_too_small_for_the_single_signs_is_refused_with_the_least_that_would_do(pieces):
    least = student.HEADER_BYTES + pieces.vocab.nbytes + 4 * (64 + student.SCALE_BYTES)  # [UNK] ##s ! 北
    assert len(student.most_used(TOKENS, pieces, np.zeros(11), 64, least)[1]) == 4
    with pytest.raises(
        ConfigError, match=f"--bytes: expected at least {least:,}, for the single signs, got {least - 1:,}"
    ):
        student.most_used(TOKENS, pieces, np.zeros(11), 64, least - 1)


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
