"""Before which tokens an answer may end, the token that ends it, and the logits that are kept of its first one."""

import json

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models

from router.host.watch.vocabulary import BEGINS_WORD, BLANK, ENDS_IN_SPACE, first_ids, places, reserved, token_bytes


def byte_level(tokens):
    tokenizer = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate(tokens)}, merges=[]))
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def marked(tokens):
    tokenizer = Tokenizer(models.BPE(vocab={token: at for at, token in enumerate(tokens)}, merges=[]))
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def test_byte_level_tokens_are_their_bytes():
    tokenizer = byte_level(["a", "Ġthe", "Ċ", "é", "Ã©", "ä¸Ń", "ä¸", "Ġ"])
    tokenizer.add_special_tokens([AddedToken("<|end|>", special=True)])
    tokenizer.add_tokens([AddedToken("<think>", special=False)])
    assert token_bytes(tokenizer.to_str(), 12) == [
        b"a", b" the", b"\n", b"\xe9", "é".encode(), "中".encode(), b"\xe4\xb8", b" ", None, b"<think>", None, None,
    ]  # fmt: skip


def test_marked_tokens_are_their_bytes():
    tokens = token_bytes(marked(["\u2581the", "a", "<0xE4>", "中", "\u2581"]).to_str(), 5)
    assert tokens == [b" the", b"a", b"\xe4", "中".encode(), b" "]


def test_of_another_kind_of_tokenizer_nothing_is_known():
    tokenizer = Tokenizer(models.WordPiece(vocab={"the": 0, "##s": 1}, unk_token="the"))
    tokenizer.decoder = decoders.WordPiece()
    assert token_bytes(tokenizer.to_str(), 2) == [None, None]
    assert places([None, None]).tolist() == [4, 4]


@pytest.mark.parametrize(
    ("token", "place"),
    [
        (b" the", 1),
        (" é".encode(), 1),
        (b" (", 1),
        (b" 1", 1),
        ("中".encode(), 1),
        ("。".encode(), 1),
        ("ひ".encode(), 1),
        ("ไทย".encode(), 1),
        ("𠮷".encode(), 1),
        (b"\xe4\xb8", 1),  # begins a Chinese character
        (b"\xb8\xad", 0),  # ends one
        (b"\x96", 0),
        (b"the", 0),
        ("é".encode(), 0),
        ("한".encode(), 0),  # Korean has blanks
        (b"\xf0\x9f", 0),  # half an emoji
        (b" ", BLANK + ENDS_IN_SPACE),
        (b"  x", 0),
        (b" \n", ENDS_IN_SPACE),
        (b"\n", ENDS_IN_SPACE),
        (b".\n", ENDS_IN_SPACE),
        (b" x ", BEGINS_WORD + ENDS_IN_SPACE),
        (b"", 0),
        (None, ENDS_IN_SPACE),
    ],
)
def test_an_answer_may_end_before_a_word_begins(token, place):
    assert places([b" word", token]).tolist() == [BEGINS_WORD, place]


def test_first_ids_depend_on_the_seed_and_the_vocabulary_alone():
    """Figures that a trained probe goes by: they must never change."""
    assert first_ids(49_152, 512)[:6].tolist() == [11747, 9795, 8313, 46341, 36493, 10727]
    found = first_ids(49_152, 512)
    assert found.dtype == np.int32
    assert len(set(found.tolist())) == 512
    assert 0.4 < (found < 24_576).mean() < 0.6
    assert first_ids(49_152, 512, seed=1).tolist() != found.tolist()
    assert sorted(first_ids(20, 20).tolist()) == list(range(20))


@pytest.mark.parametrize(
    ("used", "special", "ends", "template", "wanted"),
    [
        (range(8), {7: "<end>"}, {7}, "", 9),  # 8 and 9 are unused
        (range(8), {7: "<end>"}, {7, 9}, "", 8),
        (range(10), {7: "<end>", 6: "<pad>", 5: "<user>"}, {7}, "<user>{{ x }}<end>", 6),
        (range(10), {7: "<end>", 5: "<user>"}, {7}, "<user>{{ x }}<end>", None),
        (range(10), {}, set(), "", None),
        (range(10), {12: "<later>"}, set(), "", None),  # the engine has no logit of it
    ],
)
def test_the_reserved_token_is_one_that_no_answer_has(used, special, ends, template, wanted):
    assert reserved(10, set(used), special, ends, template) == wanted


def test_the_pairs_tokenizer_is_read(root):
    text = (root / "examples" / "pair" / "small" / "tokenizer.json").read_text()
    found = places(token_bytes(text, 512))
    words = {text: at for text, at in json.loads(text)["model"]["vocab"].items() if text.strip("Ġ").isascii()}
    assert found[words["Ġthe"]] == 1
    assert found[words["Ġ"]] == BLANK + ENDS_IN_SPACE
    ends = {text for text, at in words.items() if found[at] & BEGINS_WORD}
    assert ends == {text for text in words if text[0] == "Ġ" and text[1:2] not in ("", "Ġ", "Ċ")}
