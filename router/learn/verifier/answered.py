"""Answers with their labels, from outcome tables and files of responses. Refuses broken rows by file and row.

A row says whose answer it is (`prompt_id` or `prompt`; `model`, or one for the whole file) and any of: `response` (or
RouteLLM's `weak_response`), `output_tokens`, `output_chars`, `mean_logprob`, `least_logprob`, `agreement`,
`second_tokens`, `quality`. Knows no features.
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
from router.verify.evidence import CHARS_A_TOKEN, Evidence

TEXTS = ("response", "weak_response")
NUMBERS = ("output_tokens", "output_chars", "mean_logprob", "least_logprob", "agreement", "second_tokens", "quality")
_RANGES = {"agreement": (0, 1), "quality": (0, 1), "mean_logprob": (-math.inf, 0), "least_logprob": (-math.inf, 0)}
Key = tuple[str, str]  # prompt id, model
Values = dict[str, Any]


class Answered(msgspec.Struct, frozen=True, kw_only=True):
    """`right[i]` in 0..1 is the label of `evidence[i]`, an answer to `prompts[i]`."""

    evidence: tuple[Evidence, ...]
    right: npt.NDArray[np.float32]
    prompts: tuple[Prompt, ...]
    models: tuple[str, ...]  #: whose answers these are
    data: tuple[DataRecord, ...]


def answered(tables: Sequence[Path], responses: Sequence[Path] = (), judged: Sequence[str] = ()) -> Answered:
    """The answers that have a label, of the models `judged` (of all, where none is named). Raises ConfigError."""
    outcomes = [read(path) for path in tables]
    known = {model for table in outcomes for model in table.models}
    for name in judged:
        if model_name(name) not in known:
            raise ConfigError(f"--judged: expected one of {', '.join(sorted(known))}; got {name!r}")
    wanted = tuple(map(model_name, judged)) or tuple(sorted(known))
    told: dict[Key, Evidence] = {}
    for path in responses:
        told |= _read(path, wanted[0] if len(wanted) == 1 else "")
    for path in tables:
        told = _read(path, "") | told
    return _join(outcomes, wanted, told, tables)


def _join(
    outcomes: Sequence[Outcomes], wanted: Sequence[str], told: dict[Key, Evidence], tables: Sequence[Path]
) -> Answered:
    evidence, right, prompts = [], [], []
    models: dict[str, None] = {}
    for table in outcomes:
        for j, model in enumerate(table.models):
            for i, prompt in enumerate(table.prompts):
                found = told.get((prompt.id, model)) if model in wanted else None
                if found is not None and np.isfinite(table.scores[i, j]):
                    evidence.append(msgspec.structs.replace(found, prompt=prompt.text))
                    right.append(table.scores[i, j])
                    prompts.append(prompt)
                    models[model] = None
    if not evidence:
        raise ConfigError(
            f"{tables[0]}: expected answers of {', '.join(wanted[:3])}: `response`, `output_tokens` or --responses FILE"
        )
    return Answered(
        evidence=tuple(evidence), right=np.array(right, np.float32), prompts=tuple(prompts), models=tuple(models),
        data=tuple(DataRecord(name=t.name, sha256=t.sha256, rows=t.rows) for t in outcomes),
    )  # fmt: skip


def _read(path: Path, model: str) -> dict[Key, Evidence]:
    """`model`: whose answers a file without a `model` column holds."""
    out: dict[Key, Evidence] = {}
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


def _evidence(where: str, row: Values) -> Evidence | None:
    """None where the row tells nothing of an answer."""
    text = next((row[key] for key in TEXTS if row.get(key) is not None), None)
    if text is not None and not isinstance(text, str):
        raise ConfigError(f"{where}: response: expected text, got {records.shown(text)}")
    values = {key: _number(where, key, row[key]) for key in NUMBERS if row.get(key) is not None}
    chars = values.pop("output_chars", None)
    if chars is not None and "output_tokens" not in values:
        values["output_tokens"] = chars / CHARS_A_TOKEN
    if text is None and not values:
        return None
    return msgspec.convert({"answer": text, **_whole(values)}, Evidence)


def _whole(values: dict[str, float]) -> Values:
    return {key: round(value) if key.endswith("tokens") else value for key, value in values.items()}


def _number(where: str, key: str, value: object) -> float:
    low, high = _RANGES.get(key, (0, math.inf))
    if not isinstance(value, (int, float)) or not low <= value <= min(high, LARGEST):
        raise ConfigError(f"{where}: {key}: expected a number from {low} to {high}, got {records.shown(value)}")
    return float(value)
