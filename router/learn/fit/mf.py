"""Trains the native head: one design matrix of all prompts, one convex fit of all models, held-out logits by folds.

Source: matrix factorisation as in RouteLLM (Ong et al., 2024), with a bias, with labels of all rows, and with one prior
for the vectors of a table's models (Evgeniou and Pontil, 2004), so that models with many labels help those with few.
"""

from collections import Counter
from collections.abc import Callable, Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from scipy import sparse

from router.learn.data.corpus import Battled, Corpus, family_weights, label_weights, strengths, task_means
from router.learn.fit.bradley_terry import fit_battles
from router.learn.fit.design import Design, Matrix, design
from router.learn.fit.logistic import Weights, fit, imitate, ties
from router.learn.fit.recipe import Recipe
from router.learn.fit.smooth import smooth_columns
from router.learn.fit.static_table import UNKNOWN, static_table, vocabulary
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
    smooth: Floats  #: [prompts, landmarks]: the teacher's columns, which no table row makes; empty without one


class Part(msgspec.Struct, frozen=True):
    """The fit of one table's columns: `hidden` is over the table rows `rows` and the design's dense columns."""

    columns: npt.NDArray[np.int64]
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
    made = design(encoder, texts, recipe, static)
    meant = made.columns[:, : static.shape[1]]
    return Features(encoder, vocab, made, smooth_columns(meant, recipe.landmarks, recipe.seed))


def train(
    corpus: Corpus, made: Features, rows: Rows, recipe: Recipe, on_step: OnStep = lambda: None, only: int | None = None
) -> tuple[Part, ...]:
    """Fits the models of every table (or of `only` one) on the chosen prompts; without any, a table has no part."""
    wanted = range(corpus.table.max() + 1) if only is None else [only]
    chosen = [(table, rows & (corpus.table == table)) for table in wanted]
    return tuple(_part(corpus, made, table, of, rows, recipe, on_step) for table, of in chosen if of.any())


def is_taught(corpus: Corpus, table: int, recipe: Recipe) -> bool:
    """Whether a teacher stands between this table's labels and its weights."""
    models = sum(column.table == table for column in corpus.columns)
    few = models <= recipe.taught_models and not _is_fought(corpus, table)
    return few and bool(recipe.landmarks and recipe.static)


def _is_fought(corpus: Corpus, table: int) -> bool:
    return corpus.battles is not None and bool((corpus.table[corpus.battles.prompt] == table).any())


def _battled(corpus: Corpus, table: int, rows: Rows) -> Battled | None:
    """The table's battles on these prompts, by row among them and by column among the table's; None for scores."""
    if corpus.battles is None or not _is_fought(corpus, table):
        return None
    kept = rows[corpus.battles.prompt]
    first = next(i for i, column in enumerate(corpus.columns) if column.table == table)
    fought = corpus.battles
    return Battled(
        (np.cumsum(rows) - 1)[fought.prompt[kept]], fought.a[kept] - first, fought.b[kept] - first, fought.outcome[kept]
    )


def _part(corpus: Corpus, made: Features, table: int, rows: Rows, every: Rows, recipe: Recipe, on_step: OnStep) -> Part:
    """Two stages: what tasks have in common, less held, from means without much noise; then, from the labels and under
    the full ridge, what is left. Neither has a constant: what all prompts share must be told by what they contain, so
    that it grows with their length, as difficulty does on tasks that nobody has labelled; calibration adds one. Where
    labels are few a prompt, this fit is but half of a teacher; `every`: all prompts that may be trained on."""
    columns = np.array([i for i, column in enumerate(corpus.columns) if column.table == table])
    used = made.design.rows_in_use(rows, recipe.min_prompts)
    x = made.design.matrix(used).rows(rows)
    prior = ties(strengths(corpus, rows)[columns], recipe.tie)
    battles = _battled(corpus, table, rows)
    if battles is not None:
        return Part(columns, used, fit_battles(x, battles, prior, recipe.ridge, recipe.steps, on_step))
    scores = corpus.scores[rows][:, columns]
    tasks = corpus.tasks[rows]
    weights = label_weights(scores, recipe.alike) * family_weights(tasks, recipe.balance)[:, None]
    hidden: Floats | float = 0.0
    start: Floats | float = 0.0
    if recipe.task_ridge and len(np.unique(tasks)) > 1:
        means = task_means(tasks, scores)
        first = fit(x, means, weights, prior, recipe.task_ridge, recipe.steps, on_step, bias=False, newtons=1)
        hidden, start = first.hidden, first.logits(x)
    found = fit(x, np.nan_to_num(scores), weights, prior, recipe.ridge, recipe.steps, on_step, bias=False, offset=start)
    rough = Part(columns, used, Weights(found.hidden + hidden, prior, found.bias))
    if not is_taught(corpus, table, recipe):
        return rough
    smooth = Matrix(sparse.csr_matrix((len(rows), 0), dtype=np.float32), made.smooth)
    other = fit(smooth.rows(rows), np.nan_to_num(scores), weights, prior, recipe.ridge, recipe.steps, on_step)
    return _taught(made, every, rough, other.logits(smooth.rows(every)), recipe, on_step)


def _taught(made: Features, every: Rows, rough: Part, smooth: Floats, recipe: Recipe, on_step: OnStep) -> Part:
    """Distillation (Hinton et al., 2015): the mean of a fit of words, which is right where words have been seen, and of
    a smooth one of meanings, which is right elsewhere, said again in words: of all prompts, those of other tables too,
    for a teacher needs no label."""
    worded = rough.weights.logits(made.design.matrix(rough.rows).rows(every))
    teacher = np.asarray((worded + smooth) / 2, np.float32)
    used = made.design.rows_in_use(every, recipe.min_prompts)
    x = made.design.matrix(used).rows(every)
    found = imitate(x, teacher, rough.weights.ties, recipe.taught_ridge, recipe.steps, on_step)
    return Part(rough.columns, used, found)


def predict(made: Features, parts: Sequence[Part], rows: Rows, columns: int) -> Floats:
    """Logits [chosen prompts, columns]; NaN in columns without a part."""
    out = np.full((int(rows.sum()), columns), np.nan, np.float32)
    for part in parts:
        out[:, part.columns] = part.weights.logits(made.design.matrix(part.rows).rows(rows))
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
