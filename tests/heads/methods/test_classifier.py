"""The classifier as it is served: from its file alone, and nothing broken gets past the load."""

import json
import subprocess
import sys

import msgspec
import numpy as np
import pytest

from router.artefacts.artefact import FORMAT, Metadata, ModelRecord
from router.errors import ConfigError
from router.heads import Artefact, Claim, load, make, write

pytest.importorskip("transformers")

from tokenizers import Tokenizer

from router.heads.methods.classifier import arrays_of, encoder_of
from router.learn.routers.classifier import ClassifierOptions, pretrained

CLAIMS = [Claim(name="a", like="tiny"), Claim(name="b", like="big")]
LONG = "what is 12 + 30 ? " * 40


@pytest.fixture(scope="module")
def artefact(tiny_encoder):
    encoder = pretrained(ClassifierOptions(encoder=str(tiny_encoder), max_tokens=32))
    draw = np.random.default_rng(0)
    weight = draw.normal(0, 0.3, (2, 32)).astype(np.float32)
    meta = Metadata(
        format=FORMAT,
        models=(ModelRecord(name="tiny"), ModelRecord(name="big")),
        router="classifier",
        options=msgspec.to_builtins(encoder.recipe),
    )
    return Artefact(meta=meta, arrays=arrays_of(encoder, weight, *np.array([[0.1, -0.2], [-1.0, 2.0]], np.float32)))


@pytest.fixture(scope="module")
def head(artefact):
    return make(artefact, CLAIMS)


def test_one_query_is_scored_as_it_is_among_many(head):
    texts = ["what is 1 + 2 ?", LONG, "", "why is 7 like 9 in riddle 3 ?", "\ud800 北 unknown", "what is 999 + 1 ?"]
    together = head.score_many(texts)
    assert together.dtype == np.float32
    for text, row in zip(texts, together, strict=True):
        np.testing.assert_allclose(head.score(((text, 1.0),)).quality, row, atol=1e-6)
    assert np.ptp(together, axis=0).min() > 1e-3


def test_texts_count_by_their_weights(head):
    one, other = head.score_many(["what is 1 + 2 ?", "why is 7 like 9 in riddle 3 ?"])
    logit = lambda q: np.log(q / (1 - q))  # noqa: E731
    both = head.score((("what is 1 + 2 ?", 1.0), ("why is 7 like 9 in riddle 3 ?", 0.25))).quality
    np.testing.assert_allclose(logit(np.array(both)), (logit(one) + 0.25 * logit(other)) / 1.25, atol=1e-4)


def test_a_long_text_keeps_its_first_and_last_tokens(head):
    middle = "why riddle " * 30
    start, end = "what is 1 + 2 ? " * 3, "is 3 like 4 ? " * 4
    one, other, moved = head.score_many([start + middle + end, start + "in " * 200 + end, end + middle + start])
    np.testing.assert_allclose(one, other, atol=1e-6)
    assert np.abs(one - moved).max() > 1e-4


def test_tokens_are_counted_whole(head):
    assert head.score((("what is 12 + 3 ?", 1.0), ("why", 0.1))).prompt_tokens == 8
    assert head.score(((LONG, 1.0),)).prompt_tokens == 8 * 40


def test_of_nothing_it_says_the_models_means(head):
    np.testing.assert_allclose(head.score_many(["", "what"])[0], 1 / (1 + np.exp([1.0, -2.0])), rtol=1e-6)
    assert head.score((("", 1.0), ("", 0.1))).quality == head.score((("", 1.0),)).quality


def test_it_is_slow_and_says_so(head):
    assert head.slow


def test_a_file_is_all_it_needs(artefact, head, tmp_path):
    """In another process, offline, without the encoder's folder."""
    path = tmp_path / "c.safetensors"
    write(path, artefact)
    code = f"""
import json
from router.heads import Claim, load
head = load({str(path)!r}, [Claim(name="a", like="tiny"), Claim(name="b", like="big")])
print(json.dumps(head.score_many(["what is 1 + 2 ?", "why"]).tolist()))
"""
    env = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    out = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True, env=env)
    np.testing.assert_allclose(json.loads(out.stdout), head.score_many(["what is 1 + 2 ?", "why"]), atol=1e-6)


def changed(artefact, options=None, **arrays):
    meta = msgspec.structs.replace(artefact.meta, options={**artefact.meta.options, **(options or {})})
    kept = {name: value for name, value in {**artefact.arrays, **arrays}.items() if value is not None}
    return Artefact(meta=meta, arrays=kept)


LAYER = "encoder.encoder.layer.1.attention.self.query.weight"


@pytest.mark.parametrize(
    ("arrays", "options", "match"),
    [
        ({LAYER: None}, {}, rf"c\.safetensors: {LAYER}: expected this tensor"),
        ({LAYER: np.zeros((32, 31), np.float16)}, {}, rf"c\.safetensors: {LAYER}: expected shape \[32, 32\]"),
        ({LAYER: np.zeros((32, 32), np.int32)}, {}, rf"{LAYER}: expected float32, got int32"),
        ({"encoder.more": np.zeros(3, np.float32)}, {}, r"encoder\.more: expected no such tensor in a bert encoder"),
        ({"head.weight": np.zeros((2, 31), np.float32)}, {}, r"head\.weight: expected shape \[2, 32\]"),
        ({"head.bias": np.zeros(3, np.float32)}, {}, r"head\.bias: expected shape \[2\]"),
        ({"head.rest": None}, {}, r"head\.rest: expected this tensor"),
        ({"tokenizer": np.frombuffer(b"{}", np.uint8)}, {}, r"tokenizer: expected a tokenizer\.json"),
        ({}, {"pooling": "max"}, r"options: Invalid enum value 'max' - at `\$\.pooling`"),
        ({}, {"config": {"model_type": "nonsense"}}, r"options\.config: transformers builds no encoder of it"),
        ({}, {"max_tokens": 1}, r"options: Expected `int` >= 4 - at `\$\.max_tokens`"),
    ],
)
def test_a_broken_file_is_refused(artefact, tmp_path, arrays, options, match):
    path = tmp_path / "c.safetensors"
    write(path, changed(artefact, options, **arrays))
    with pytest.raises(ConfigError, match=match):
        load(path, CLAIMS)


def test_without_its_libraries_it_says_what_is_missing(artefact, monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    monkeypatch.delitem(sys.modules, "router.heads.methods.classifier")
    with pytest.raises(ConfigError, match="a classifier needs transformers: pip install"):
        make(artefact, CLAIMS)


@pytest.mark.parametrize("charsmap", ["", "AAAA", "BAAAAAAAAABh"])
def test_a_tokenizer_that_panics_is_refused_when_it_is_loaded(artefact, charsmap):
    found = json.loads(artefact.arrays["tokenizer"].tobytes())
    found["normalizer"] = {"type": "Precompiled", "precompiled_charsmap": charsmap}
    text = np.frombuffer(json.dumps(found).encode(), np.uint8)
    with pytest.raises(ConfigError, match=r"tokenizer: expected a tokenizer\.json: (tokenizers: |.*Precompiled)"):
        make(Artefact(meta=artefact.meta, arrays={**artefact.arrays, "tokenizer": text}), CLAIMS)


def test_a_panic_on_a_text_is_an_error_of_this_text(artefact):
    encoder = encoder_of(artefact)
    regex = {"type": "Replace", "pattern": {"Regex": "(a*)*$"}, "content": ""}
    encoder.tokenizer = Tokenizer.from_str(json.dumps(json.loads(encoder.tokenizer.to_str()) | {"normalizer": regex}))
    assert encoder.count("what is 1 + 2 ?") > 0
    for encode in (encoder.count, lambda text: encoder.ids([text])):
        with pytest.raises(RuntimeError, match=r"tokenizers: .*retry-limit"):
            encode("a" * 30 + "b")
