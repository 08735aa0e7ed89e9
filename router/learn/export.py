"""A trained head to a checkpoint that the native scorer maps: weights folded into one table, cut to K columns."""

from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router.heads.checkpoint import FORMAT, DataRecord, Metadata, ModelRecord, write
from router.heads.placement import size_of
from router.learn.corpus import Corpus, strengths
from router.learn.mf import Features, Part
from router.learn.outcomes import Outcomes

Floats = npt.NDArray[np.float32]


class Head(msgspec.Struct, frozen=True):
    """`logits = bags @ table @ vectors.T + bias` of the chosen models."""

    table: Floats
    vectors: Floats
    bias: Floats


def head(made: Features, parts: Sequence[Part], chosen: npt.NDArray[np.int64], lines: Floats, columns: int) -> Head:
    """Folds the chosen columns, calibrates them by `lines` [columns, 2], and keeps the `columns` main directions.

    The directions are those of the training prompts' logits, so the cut costs what it costs on real prompts.
    """
    slope, offset = lines[chosen].T
    table = np.concatenate([made.design.fold(part.rows, part.weights.hidden) for part in parts], axis=1)
    ties, constants = _stacked(parts, len(lines))
    vectors = ties[chosen] * slope[:, None]
    bias = constants[chosen] * slope + offset
    hidden = made.design.bags @ table
    gram = (hidden.T @ hidden).astype(np.float64)
    root = np.linalg.cholesky(gram + 1e-6 * np.trace(gram) / len(gram) * np.eye(len(gram)))
    _, sizes, axes = np.linalg.svd((root.T @ vectors.T), full_matrices=False)
    keep = axes[:columns] * np.sign(axes[np.arange(len(axes[:columns])), np.abs(axes[:columns]).argmax(1)])[:, None]
    out = Head(_padded(table @ (vectors.T @ keep.T), columns), _padded(keep.T, columns), np.asarray(bias, np.float32))
    assert len(sizes) >= keep.shape[0]
    return out


def spoken_for(corpus: Corpus) -> npt.NDArray[np.int64]:
    """The one column that speaks for each model."""
    return np.array([corpus.column(model) for model in corpus.models])


def records(corpus: Corpus) -> tuple[ModelRecord, ...]:
    """A record per model, with its strength where MMLU-Pro labels tell it."""
    known = strengths(corpus, np.ones(len(corpus.prompts), bool))
    out = []
    for model in corpus.models:
        columns = [i for i, column in enumerate(corpus.columns) if column.model == model]
        strength = next((float(known[i]) for i in columns if np.isfinite(known[i])), None)
        prompts = int(np.isfinite(corpus.scores[:, corpus.column(model)]).sum())
        rounded = None if strength is None else round(strength, 4)
        out.append(ModelRecord(name=model, strength=rounded, prompts=prompts, size_b=size_of(model)))
    return tuple(out)


def save(
    path: str | Path,
    corpus: Corpus,
    tables: Sequence[Outcomes],
    made: Features,
    trained: Head,
    recipe: str,
    figures: dict[str, float],
) -> None:
    """Writes the checkpoint. Equal input gives equal bytes."""
    meta = Metadata(
        format=FORMAT,
        encoder=made.encoder.spec,
        models=records(corpus),
        data=tuple(DataRecord(name=table.name, sha256=table.sha256, rows=table.rows) for table in tables),
        recipe=recipe,
        figures=figures,
    )
    table = trained.table.astype(np.float16)
    write(path, meta, {"table": table, "vocab": made.vocab, "vectors": trained.vectors, "bias": trained.bias})


def _stacked(parts: Sequence[Part], columns: int) -> tuple[Floats, Floats]:
    """Ties [columns, all parts' k], zero outside the own part, and biases [columns]."""
    width = [part.weights.ties.shape[1] for part in parts]
    ties, bias = np.zeros((columns, sum(width)), np.float32), np.zeros(columns, np.float32)
    for part, first in zip(parts, np.cumsum([0, *width[:-1]]), strict=True):
        ties[part.columns, first : first + part.weights.ties.shape[1]] = part.weights.ties
        bias[part.columns] = part.weights.bias
    return ties, bias


def _padded(array: Floats, columns: int) -> Floats:
    out = np.zeros((array.shape[0], columns), np.float32)
    out[:, : array.shape[1]] = array
    return out
