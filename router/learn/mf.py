"""Trains the native head: a design of all prompts, one convex fit of all models, held-out logits by folds.

Source: matrix factorisation as in RouteLLM (Ong et al., 2024), with a bias, with labels of all rows, and with the
models' vectors drawn from one prior (Evgeniou and Pontil, 2004) so that tables of different models teach each other.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt

from router.learn.corpus import Corpus, label_weights, smoothed, strengths
from router.learn.design import Design, design
from router.learn.folds import training_rows
from router.learn.logistic import Weights, fit, ties
from router.learn.recipe import Recipe
from router.learn.static_table import UNKNOWN, static_table, vocabulary
from router.native.scorer import Encoder
from router.native.spec import EncoderSpec
from router.native.vocab import build_vocab

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.bool_]
OnStep = Callable[[], None]
POOLING_CAP = 1e9  #: pieces are pooled as n-grams are: sum / sqrt(n)


class Features(msgspec.Struct, frozen=True):
    """What is computed once per corpus, whatever is held out. No label is in it."""

    encoder: Encoder
    vocab: npt.NDArray[np.uint64]
    design: Design


class Fitted(msgspec.Struct, frozen=True):
    """Weights and the table rows that their features are."""

    rows: npt.NDArray[np.int64]
    weights: Weights


def features(corpus: Corpus, recipe: Recipe, static: Floats | None = None) -> Features:
    """`static` [pieces, d]: a static table made before; else it is distilled here, which takes half a minute."""
    tokens = vocabulary()
    texts = [prompt.text for prompt in corpus.prompts]
    if recipe.vocabulary:
        tokens = _frequent(tokens, texts, recipe.vocabulary)
    vocab, longest = build_vocab(tokens)
    encoder = Encoder(_spec(recipe, tokens, longest), vocab)
    if static is None:
        static = static_table(recipe.static) if recipe.static else np.zeros((len(tokens), 0), np.float32)
    return Features(encoder, vocab, design(encoder, texts, recipe, static))


def train(corpus: Corpus, made: Features, rows: Rows, recipe: Recipe, on_step: OnStep = lambda: None) -> Fitted:
    """Fits all models on the chosen prompts."""
    used = made.design.rows_in_use(rows, recipe.min_prompts)
    x = made.design.matrix(used).rows(rows)
    prior = ties([column.table for column in corpus.columns], strengths(corpus, rows), recipe.tie)
    weights = label_weights(corpus.scores[rows], recipe.alike)
    scores = smoothed(corpus, rows, recipe.smooth)
    return Fitted(used, fit(x, scores, weights, prior, recipe.ridge, recipe.steps, on_step))


def predict(made: Features, fitted: Fitted, rows: Rows) -> Floats:
    """Logits [chosen prompts, models]."""
    return fitted.weights.logits(made.design.matrix(fitted.rows).rows(rows))


def held_out(
    corpus: Corpus, made: Features, folds: npt.NDArray[np.int64], recipe: Recipe, on_step: OnStep = lambda: None
) -> Floats:
    """Logits [prompts, models], each by a fit that saw no question of its fold. Fold -1: never held out, NaN."""
    out = np.full(corpus.scores.shape, np.nan, np.float32)
    for fold in range(folds.max() + 1):
        test = folds == fold
        fitted = train(corpus, made, training_rows(corpus.prompts, test), recipe, on_step)
        out[test] = predict(made, fitted, test)
    return out


def _frequent(tokens: Sequence[str], texts: Sequence[str], size: int) -> list[str]:
    """The pieces most met in the texts, and all single characters, so that most words can still be pieced."""
    vocab, longest = build_vocab(tokens)
    spec = EncoderSpec(pieces=len(tokens), unk=tokens.index(UNKNOWN), max_piece=longest, word_rows=0)
    encoder = Encoder(spec, vocab)
    met = Counter(id_ for text in texts for id_ in encoder.pieces(text))
    ascii_pieces = {i for i, token in enumerate(tokens) if token.isascii() and len(token.removeprefix("##")) == 1}
    kept = {spec.unk, *ascii_pieces}
    kept.update(id_ for id_, _ in met.most_common(max(0, size - len(kept))))
    return [tokens[i] for i in sorted(kept)]


def _spec(recipe: Recipe, tokens: Sequence[str], longest: int) -> EncoderSpec:
    return EncoderSpec(
        pieces=len(tokens),
        unk=tokens.index(UNKNOWN),
        max_piece=longest,
        word_rows=recipe.word_rows,
        word_orders=recipe.word_orders,
        char_rows=recipe.char_rows,
        char_orders=recipe.char_orders,
        piece_cap=POOLING_CAP,
        seed=recipe.seed,
    )
