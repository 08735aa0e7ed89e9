"""What a row of a table tells of an answer's tokens: their statistics one by one, or summed up as the watch does, and
the logits at the first of them. Refuses broken cells by file, row and column.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from router.errors import ConfigError
from router.learn.data import records
from router.learn.verifier.series import Series, figures
from router.watched import Figures

LONGEST = 1 << 20  #: tokens of an answer
MOST_FIRSTS = 4096  #: logits at the first token
IDS = "first_logits_token_ids"  #: a Parquet file's metadata: which tokens' logits those are, as JSON
_LISTS = {"logprobs": (-math.inf, 0.0), "entropies": (0.0, math.inf), "margins": (0.0, math.inf)}
#: Of the columns named as `Figures`' fields.
_FIGURES = tuple(name for name in Figures.__struct_fields__ if name != "tokens")
Values = dict[str, Any]


class Seen(msgspec.Struct, frozen=True):
    """Of one answer; None and empty: not told."""

    series: Series | None = None
    figures: Figures | None = None
    first: tuple[float, ...] = ()


def seen(where: str, row: Values) -> Seen:
    """Raises ConfigError."""
    lists = {key: _list(where, key, row.get(key), *bounds) for key, bounds in _LISTS.items()}
    lengths = {len(values) for values in lists.values() if values}
    if len(lengths) > 1:
        raise ConfigError(f"{where}: {', '.join(lists)}: expected as many numbers in each, got {sorted(lengths)}")
    first = _list(where, "first_logits", row.get("first_logits"), -math.inf, math.inf, MOST_FIRSTS)
    if lists["logprobs"]:
        series = Series(**lists)
        return Seen(series, figures(series), first)
    if lengths:
        raise ConfigError(f"{where}: logprobs: expected numbers where there are entropies or margins, got none")
    told = {key: _number(where, key, row[key]) for key in _FIGURES if row.get(key) is not None}
    tokens = row.get("output_tokens")
    if set(told) <= {"mean_logprob", "least_logprob"} or not isinstance(tokens, (int, float)) or tokens < 1:
        return Seen(first=first)
    unknown = dict.fromkeys(_FIGURES, math.nan)
    return Seen(None, Figures(tokens=int(tokens), **(unknown | told)), first)


def first_ids(path: Path) -> tuple[int, ...]:
    """Of the table's `first_logits`; empty where it does not say. Raises ConfigError."""
    if path.suffix != ".parquet":
        return ()
    import pyarrow.parquet as pq

    try:
        told = (pq.read_schema(path).metadata or {}).get(IDS.encode())
        ids = json.loads(told) if told is not None else []
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {IDS}: {error}") from error
    if not isinstance(ids, list) or not all(isinstance(each, int) and 0 <= each < 1 << 31 for each in ids):
        raise ConfigError(f"{path}: {IDS}: expected a list of token ids, got {records.shown(ids)}")
    return tuple(ids)


def _list(where: str, key: str, value: object, low: float, high: float, most: int = LONGEST) -> tuple[float, ...]:
    if value is None:
        return ()
    if not isinstance(value, Sequence) or isinstance(value, str) or len(value) > most:
        raise ConfigError(f"{where}: {key}: expected a list of at most {most} numbers, got {records.shown(value)}")
    for each in value:
        if not isinstance(each, (int, float)) or not low <= each <= high or math.isinf(each):
            raise ConfigError(
                f"{where}: {key}: expected finite numbers from {low} to {high}, got {records.shown(each)} among them"
            )
    return tuple(map(float, value))


def _number(where: str, key: str, value: object) -> float:
    low, high = (-math.inf, 0.0) if key.endswith("logprob") else (0.0, math.inf)
    if not isinstance(value, (int, float)) or not low <= value <= high:
        raise ConfigError(f"{where}: {key}: expected a number from {low} to {high}, got {records.shown(value)}")
    return float(value)
