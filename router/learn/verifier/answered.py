"""Answers with their labels, from outcome tables and files of responses. Refuses broken rows by file and row.

A row says whose answer it is (`prompt_id` or `prompt`; `model`, or one for the whole file) and any of: `response` (or
RouteLLM's `weak_response`), `output_tokens`, `output_chars`, `mean_logprob`, `least_logprob`, `agreement`,
`second_tokens`, `quality`, `finish_reason`, `expected_tokens`, `sample_agreement`, and what `token_columns` reads.
Knows no features.
"""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import DataRecord
from router.errors import ConfigError
from router.learn.data import records
from router.learn.data.outcomes import LARGEST, Outcomes, Prompt, model_name, prompt_id, read
from router.learn.verifier.series import Series
from router.learn.verifier.token_columns import first_ids, seen
from router.verify.evidence import CHARS_A_TOKEN, Evidence

TEXTS = ("response", "weak_response")
NUMBERS = (
    "output_tokens", "output_chars", "mean_logprob", "least_logprob", "agreement", "second_tokens", "quality",
    "expected_tokens", "sample_agreement",
)  # fmt: skip
_RANGES = {
    "agreement": (0, 1), "quality": (0, 1), "mean_logprob": (-math.inf, 0), "least_logprob": (-math.inf, 0),
    "sample_agreement": (0, 1),
}  # fmt: skip
Key = tuple[str, str]  # prompt id, model
Values = dict[str, Any]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """`right[i]` in 0..1 is the label of `evidence[i]`, an answer to `prompts[i]`."""

    evidence: tuple[Evidence, ...]
    right: npt.NDArray[np.float32]
    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]  #: whose answers these are
    data: tuple[DataRecord, ...]
    authors: npt.NDArray[np.int64]  #: [answers]: the place among `models` of each one's
    series: tuple[Series | None, ...]  #: of the tokens of each, where they are told one by one
    first: tuple[tuple[float, ...], ...]  #: normalised logits at each one's first token; empty: not told
    first_ids: tuple[int, ...] = ()  #: which tokens' logits those are; empty: not told, or not the same everywhere
    outcomes: tuple[Outcomes, ...] = ()  #: the tables, with the scores of models of which no answer is told, too

    def lengths(self) -> npt.NDArray[np.float64]:
        """[answers] in output tokens, by the text where they are not told; NaN: unknown."""
        return np.array(
            [
                one.output_tokens if one.output_tokens is not None
                else len(one.answer) / CHARS_A_TOKEN if one.answer is not None
                else math.nan
                for one in self.evidence
            ],
            np.float64,
        )  # fmt: skip


class _Told(msgspec.Struct, frozen=True):
    """Of one answer."""

    evidence: Evidence
    series: Series | None = None
    first: tuple[float, ...] = ()


def answered(tables: Sequence[Path], responses: Sequence[Path] = (), judged: Sequence[str] = ()) -> Answered:
    """The answers that have a label, of the models `judged` (of all, where none is named). Raises ConfigError."""
    outcomes = [read(path) for path in tables]
    known = {model for table in outcomes for model in table.models}
    for name in judged:
        if model_name(name) not in known:
            raise ConfigError(f"--judged: expected one of {', '.join(sorted(known))}; got {name!r}")
    wanted = tuple(map(model_name, judged)) or tuple(sorted(known))
    told: dict[Key, _Told] = {}
    for path in responses:
        told |= _read(path, wanted[0] if len(wanted) == 1 else "")
    for path in tables:
        told = _read(path, "") | told
    joined = _join(outcomes, wanted, told, tables)
    ids = {first_ids(path) for path in (*tables, *responses)} - {()}
    return msgspec.structs.replace(joined, first_ids=ids.pop() if len(ids) == 1 else ())


def _join(
    outcomes: Sequence[Outcomes], wanted: Sequence[str], told: dict[Key, _Told], tables: Sequence[Path]
) -> Answered:
    found: list[_Told] = []
    right, prompts, authors = [], [], []
    models: dict[str, int] = {}
    for table in outcomes:
        for j, model in enumerate(table.models):
            for i, prompt in enumerate(table.prompts):
                one = told.get((prompt.id, model)) if model in wanted else None
                if one is not None and np.isfinite(table.scores[i, j]):
                    found.append(
                        msgspec.structs.replace(one, evidence=msgspec.structs.replace(one.evidence, prompt=prompt.text))
                    )
                    right.append(table.scores[i, j])
                    prompts.append(prompt)
                    authors.append(models.setdefault(model, len(models)))
    if not found:
        raise ConfigError(
            f"{tables[0]}: expected answers of {', '.join(wanted[:3])}: `response`, `output_tokens` or --responses FILE"
        )
    return Answered(
        evidence=tuple(one.evidence for one in found), right=np.array(right, np.float32), prompts=tuple(prompts),
        models=tuple(models), data=tuple(DataRecord(name=t.name, sha256=t.sha256, rows=t.rows) for t in outcomes),
        authors=np.array(authors, np.int64), series=tuple(one.series for one in found),
        first=tuple(one.first for one in found), outcomes=tuple(outcomes),
    )  # fmt: skip


def _read(path: Path, model: str) -> dict[Key, _Told]:
    """`model`: whose answers a file without a `model` column holds."""
    out: dict[Key, _Told] = {}
    for record in records.read(path):
        where, row = record.where, record.values
        if record.broken:
            raise ConfigError(f"{where}: {record.broken}")
        id_ = row.get("prompt_id") or (prompt_id(row["prompt"]) if isinstance(row.get("prompt"), str) else None)
        name = row.get("model") or model
        if not isinstance(id_, str) or not isinstance(name, str):
            raise ConfigError(
                f"{where}: prompt_id, model: expected text, got {records.shown(id_)}, {records.shown(name)}"
            )
        if not name:
            raise ConfigError(f"{where}: model: expected a name; say whose answers these are with one --judged MODEL")
        found = _evidence(where, row)
        if found is not None:
            out[id_, model_name(name)] = found
    return out


def _evidence(where: str, row: Values) -> _Told | None:
    """None where the row tells nothing of an answer."""
    text = _text(where, "response", next((row[key] for key in TEXTS if row.get(key) is not None), None))
    values = {key: _number(where, key, row[key]) for key in NUMBERS if row.get(key) is not None}
    chars = values.pop("output_chars", None)
    if chars is not None and "output_tokens" not in values:
        values["output_tokens"] = chars / CHARS_A_TOKEN
    tokens = seen(where, row)
    if text is None and not values and tokens.figures is None:
        return None
    if tokens.figures is not None:
        known = {key: getattr(tokens.figures, key) for key in ("mean_logprob", "least_logprob")}
        values = {key: value for key, value in known.items() if value == value} | values
        values.setdefault("output_tokens", tokens.figures.tokens)
    evidence = msgspec.convert({"answer": text, **_whole(values)}, Evidence)
    finish = _text(where, "finish_reason", row.get("finish_reason"))
    evidence = msgspec.structs.replace(evidence, figures=tokens.figures, finish_reason=finish or None)
    return _Told(evidence, tokens.series, tokens.first)


def _text(where: str, key: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ConfigError(f"{where}: {key}: expected text, got {records.shown(value)}")
    return value


def _whole(values: dict[str, float]) -> Values:
    return {key: round(value) if key in ("output_tokens", "second_tokens") else value for key, value in values.items()}


def _number(where: str, key: str, value: object) -> float:
    low, high = _RANGES.get(key, (0, math.inf))
    if not isinstance(value, (int, float)) or not low <= value <= min(high, LARGEST):
        raise ConfigError(f"{where}: {key}: expected a number from {low} to {high}, got {records.shown(value)}")
    return float(value)
