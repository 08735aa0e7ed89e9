"""A trained head to a checkpoint that the native scorer maps: weights folded into one table, cut to K columns."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import FORMAT, Artefact, DataRecord, Metadata, ModelRecord
from router.heads.placement import size_of
from router.learn.data.battles import Battles
from router.learn.data.corpus import Corpus, strengths
from router.learn.data.outcomes import Outcomes
from router.learn.fit.mf import Features, Part

Floats = npt.NDArray[np.float32]


class Head(msgspec.Struct, frozen=True):
    """`logits = bags @ table @ vectors.T + bias` of the chosen models."""

    table: Floats
    vectors: Floats
    bias: Floats


def head(made: Features, parts: Sequence[Part], chosen: npt.NDArray[np.int64], columns: int) -> Head:
    """Folds the chosen columns of the corpus and keeps the `columns` main directions.

    The directions are those of the training prompts' logits, so the cut costs what it costs on real prompts.
    """
    table = np.concatenate([made.design.fold(part.rows, part.weights.hidden) for part in parts], axis=1)
    ties, constants = _stacked(parts, 1 + max(chosen.max(), *(part.columns.max() for part in parts)))
    vectors, bias = ties[chosen], constants[chosen]
    hidden = (made.design.bags @ table).astype(np.float64)  # prompts that are much alike leave few directions
    gram = hidden.T @ hidden
    least = max(1e-6 * np.trace(gram) / len(gram), 1e-12)  # a table that teaches nothing has no direction at all
    root = np.linalg.cholesky(gram + least * np.eye(len(gram)))
    _, sizes, axes = np.linalg.svd((root.T @ vectors.T), full_matrices=False)
    keep = axes[:columns] * np.sign(axes[np.arange(len(axes[:columns])), np.abs(axes[:columns]).argmax(1)])[:, None]
    out = Head(_padded(table @ (vectors.T @ keep.T), columns), _padded(keep.T, columns), np.asarray(bias, np.float32))
    assert len(sizes) >= keep.shape[0]
    return out


def spoken_for(corpus: Corpus) -> npt.NDArray[np.int64]:
    """The one column that speaks for each model."""
    return np.array([corpus.column(model) for model in corpus.models])


def records(corpus: Corpus, columns: npt.NDArray[np.int64]) -> tuple[ModelRecord, ...]:
    """A record per column, with its model's strength where MMLU-Pro labels tell it. Of a model's second column the
    name says the table's number."""
    known = strengths(corpus, np.ones(len(corpus.prompts), bool))
    out: dict[str, ModelRecord] = {}
    for column in columns:
        model, table = corpus.columns[column].model, corpus.columns[column].table
        alike = [i for i, other in enumerate(corpus.columns) if other.model == model]
        strength = next((round(float(known[i]), 4) for i in alike if np.isfinite(known[i])), None)
        prompts = int(np.isfinite(corpus.scores[:, column]).sum())
        name = f"{model}@{table}" if model in out else model
        out[name] = ModelRecord(name=name, strength=strength, prompts=prompts, size_b=size_of(model))
    return tuple(out.values())


def artefact(corpus: Corpus, columns: npt.NDArray[np.int64], made: Features, trained: Head) -> Artefact:
    """Without a word on where it came from; see `signed`."""
    meta = Metadata(format=FORMAT, encoder=made.encoder.spec, models=records(corpus, columns))
    arrays: dict[str, npt.NDArray[Any]] = {
        "table": trained.table.astype(np.float16),
        "vocab": made.vocab,
        "vectors": trained.vectors,
        "bias": trained.bias,
    }
    return Artefact(meta=meta, arrays=arrays)


def signed(made: Artefact, tables: Sequence[Outcomes | Battles], recipe: str, figures: dict[str, float]) -> Artefact:
    """The artefact with its data, its command and its held-out figures."""
    data = tuple(DataRecord(name=table.name, sha256=table.sha256, rows=table.rows) for table in tables)
    meta = msgspec.structs.replace(made.meta, data=data, recipe=recipe, figures=figures)
    return msgspec.structs.replace(made, meta=meta)


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
