"""When requests are sent: planned before the first one, and the same for every policy of a round.

Poisson or evenly spaced, at one rate or with bursts, or as a recorded trace says. Seconds from the start of a cell.
"""

import datetime
import itertools
import math
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn.data import records

#: Names of a trace's columns, ours first: the ledger's journal, Mooncake's and Azure's public traces.
_AT = ("at_s", "time_s", "timestamp", "TIMESTAMP", "arrival_time", "arrived_at")
_INPUT = ("input_tokens", "prompt_tokens", "input_length", "ContextTokens", "num_prefill_tokens")
_OUTPUT = ("output_tokens", "completion_tokens", "output_length", "GeneratedTokens", "num_decode_tokens")
_PROMPT = ("prompt",)
MOST = 5_000_000  #: requests of one cell


class Burst(msgspec.Struct, frozen=True):
    """`factor` times the rate for `seconds` out of every `every` seconds, at their end."""

    factor: float
    seconds: float
    every: float

    def mean(self) -> float:
        """Mean rate over the plain one's."""
        return 1.0 + (self.factor - 1.0) * self.seconds / self.every


class Arrivals(msgspec.Struct, frozen=True, kw_only=True):
    """How a rate becomes moments."""

    poisson: bool = True
    burst: Burst | None = None


class Arrival(msgspec.Struct, frozen=True, kw_only=True):
    """One request of a trace. Token counts are 0, and the prompt is None, where it does not tell them."""

    at_s: float
    input_tokens: int = 0
    output_tokens: int = 0
    prompt: str | None = None


class Trace(msgspec.Struct, frozen=True, kw_only=True):
    """In order of time, the first at 0."""

    arrivals: tuple[Arrival, ...]
    moved: int = 0  #: rows that stood behind a later one


def planned(how: Arrivals, rate: float, seconds: float, seed: int) -> npt.NDArray[np.float64]:
    """Moments in [0, seconds), ascending. `rate`: requests a second outside of bursts."""
    burst = how.burst
    expected = rate * seconds * (1.0 if burst is None else burst.factor)
    if expected > MOST:
        raise ConfigError(f"--rate: expected at most {MOST} requests in a round, got about {expected:.0f}")
    work = rate * (seconds if burst is None else _work(burst, np.array([seconds]))[0])
    if how.poisson:
        rng = np.random.default_rng(seed)
        steps = np.cumsum(rng.exponential(size=max(16, int(work + 6 * math.sqrt(work) + 16))))
    else:
        steps = np.arange(math.ceil(work), dtype=np.float64)
    moments = steps[steps < work] / rate
    return moments if burst is None else _when(burst, moments)


def _work(burst: Burst, at_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The integral of the rate over the plain rate, from 0 to each moment."""
    periods, rest = np.divmod(at_s, burst.every)
    calm = burst.every - burst.seconds
    inside = np.minimum(rest, calm) + np.maximum(rest - calm, 0.0) * burst.factor
    return np.asarray(periods * (calm + burst.seconds * burst.factor) + inside)


def _when(burst: Burst, work: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The inverse of `_work`."""
    calm = burst.every - burst.seconds
    periods, rest = np.divmod(work, calm + burst.seconds * burst.factor)
    return np.asarray(periods * burst.every + np.minimum(rest, calm) + np.maximum(rest - calm, 0.0) / burst.factor)


def trace(path: Path, speed: float = 1.0) -> Trace:
    """A recorded trace: JSONL, JSON, CSV or Parquet, a row a request. `speed` 2 sends twice as fast.

    Rows out of order are put in order, and counted. Raises ConfigError that names the row of a time that is none.
    """
    rows = []
    for record in records.read(path):
        if record.broken:
            raise ConfigError(f"{record.where}: {record.broken}")
        if record.values.get("type", "request") == "request":  # a journal has other lines too
            rows.append(_arrival(record))
    if not rows:
        raise ConfigError(f"{path}: expected at least one request, got none")
    moved = sum(b.at_s < a.at_s for a, b in itertools.pairwise(rows))
    rows.sort(key=lambda row: row.at_s)
    first = rows[0].at_s
    shifted = (msgspec.structs.replace(row, at_s=(row.at_s - first) / speed) for row in rows)
    return Trace(arrivals=tuple(shifted), moved=moved)


def _arrival(record: records.Record) -> Arrival:
    values = record.values
    name = next((name for name in _AT if name in values), None)
    if name is None:
        raise ConfigError(f"{record.where}: expected a time under one of {', '.join(_AT)}; got {', '.join(values)}")
    at_s = _seconds(values[name], record.where, name)
    if "input_length" in values:  # Mooncake's, in milliseconds
        at_s /= 1000.0
    prompt = next((values[key] for key in _PROMPT if isinstance(values.get(key), str)), None)
    return Arrival(
        at_s=at_s, input_tokens=_tokens(record, _INPUT), output_tokens=_tokens(record, _OUTPUT), prompt=prompt
    )


def _seconds(value: object, where: str, name: str) -> float:
    try:
        at_s = float(value) if isinstance(value, (int, float, str)) and not isinstance(value, bool) else math.nan
    except ValueError:
        at_s = _clock(str(value))
    if isinstance(value, datetime.datetime):
        at_s = value.timestamp()
    if not math.isfinite(at_s) or at_s < 0:
        raise ConfigError(f"{where}: {name}: expected seconds from 0, or a date and time; got {records.shown(value)}")
    return at_s


def _clock(text: str) -> float:
    """A date and time; of a second's digits the first six count."""
    head, dot, digits = text.strip().partition(".")
    try:
        return datetime.datetime.fromisoformat(head + dot + digits[:6]).timestamp()
    except ValueError:
        return math.nan


def _tokens(record: records.Record, names: tuple[str, ...]) -> int:
    value = next((record.values[name] for name in names if record.values.get(name) is not None), 0)
    try:
        count = int(value)
    except (TypeError, ValueError):
        count = -1
    if not 0 <= count <= 1 << 24:
        raise ConfigError(f"{record.where}: expected a number of tokens from 0, got {records.shown(value)}")
    return count
