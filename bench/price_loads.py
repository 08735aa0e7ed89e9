"""The highest load that each policy of a ramp holds, round by round, and how two policies' loads compare.

A load is held in a round while at least `attain` of the requests of this level, and of each level below, are within the
SLO; and the level's answers, all rounds together, are as good as asked. Quality is paired by question: the mean grade
over that of the reference on the same questions, so that which questions a level drew does not count.
"""

import json
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import report

from router.learn.bench.figures import GOOD
from router.learn.bench.plan import Slo
from router.learn.bench.rows import Cell, Row
from router.learn.bench.slo import holds, kept


class Asked(NamedTuple):
    """What a load must keep to be held."""

    slo: Slo
    quality: float  #: of the reference's
    attain: float = 0.99  #: share of requests within the SLO


class Ramp(NamedTuple):
    """What `headgate bench --ramp` left in its folder."""

    rates: tuple[float, ...]  #: requests a second, by level
    rounds: int
    rows: tuple[Row, ...]
    cells: tuple[Cell, ...]

    @classmethod
    def of(cls, folder: Path) -> "Ramp":
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        rates = tuple(float(level["rate"]) for level in run["levels"])
        return cls(rates, run["rounds"], tuple(_table(folder / "requests.jsonl", Row)),
                   tuple(_table(folder / "cells.jsonl", Cell)))  # fmt: skip


def grades(ramp: Ramp, policy: str) -> dict[int, float]:
    """Mean grade of each question that `policy` answered at all. A lost answer tells nothing of how good they are."""
    found: dict[int, list[float]] = {}
    for row in ramp.rows:
        if row.policy == policy and row.score is not None and not row.fault:
            found.setdefault(row.item, []).append(row.score)
    return {item: statistics.fmean(scores) for item, scores in found.items()}


def quality(rows: Sequence[Row], reference: Mapping[int, float]) -> float | None:
    """Mean grade over the reference's on the same questions; a lost answer is graded 0. None: no question is shared."""
    shared = [row for row in rows if row.score is not None and row.item in reference]
    most = sum(reference[row.item] for row in shared)
    return sum(row.score or 0.0 for row in shared) / most if most else None


class Level(NamedTuple):
    """One policy at one rate, all rounds together."""

    rate: float
    requests: int
    slo_share: float
    quality: float | None  #: of the reference's


class Held(NamedTuple):
    """The highest load of one policy."""

    by_round: tuple[float | None, ...]  #: requests a second; None: not even the lowest level
    levels: tuple[Level, ...]
    at_top: bool  #: the ramp ended before some round's load was too high

    @property
    def load(self) -> float | None:
        """Median over the rounds; a round without a load counts as the lowest."""
        middle = statistics.median_low([one or 0.0 for one in self.by_round])
        return middle or None

    def told(self) -> dict[str, Any]:
        """As the result's JSON has it."""
        levels = [{key: _short(value) for key, value in level._asdict().items()} for level in self.levels]
        by_round = [_short(one) for one in self.by_round]
        return {"load": _short(self.load), "by_round": by_round, "at_top": self.at_top, "levels": levels}


def held(ramp: Ramp, policy: str, asked: Asked, reference: Mapping[int, float]) -> Held:
    """`asked.quality` 0: whatever the quality."""
    levels = tuple(_levels(ramp, policy, asked, reference))
    good = {
        level.rate for level in levels
        if not asked.quality or (level.quality is not None and level.quality >= asked.quality)
    }  # fmt: skip
    chains = [_chain(ramp, policy, round, asked) for round in range(ramp.rounds)]
    loads = tuple(max((rate for rate in chain if rate in good), default=None) for chain in chains)
    return Held(loads, levels, any(len(chain) == len(ramp.rates) for chain in chains))


def ratio(ours: Held, theirs: Held) -> dict[str, Any] | None:
    """Of loads, round by round, where theirs has one; a round in which only ours has none counts as 0. None: theirs has
    a load in no round."""
    pairs = [(a or 0.0, b) for a, b in zip(ours.by_round, theirs.by_round, strict=True) if b is not None]
    return report.spread(report.ratios(*zip(*pairs, strict=True))) if pairs else None


def seconds_a_good_answer(ramp: Ramp, policy: str) -> list[float | None]:
    """Engine seconds of a round's turns over its good answers. None: no engine seconds are known, or none was good."""
    out: list[float | None] = []
    for round in range(ramp.rounds):
        cells = [cell for cell in ramp.cells if (cell.round, cell.policy) == (round, policy)]
        rows = [row for row in ramp.rows if (row.round, row.policy) == (round, policy)]
        good = sum(not row.fault and (row.score or 0.0) >= GOOD for row in rows)
        known = bool(cells) and all(cell.engine_s for cell in cells)
        out.append(sum(sum(cell.engine_s.values()) for cell in cells) / good if known and good else None)
    return out


def _levels(ramp: Ramp, policy: str, asked: Asked, reference: Mapping[int, float]) -> Iterator[Level]:
    for at, rate in enumerate(ramp.rates):
        rows = [row for row in ramp.rows if row.policy == policy and row.level == at and not row.warm]
        if rows:
            within = sum(kept(row, asked.slo) for row in rows)
            yield Level(rate, len(rows), within / len(rows), quality(rows, reference))


def _chain(ramp: Ramp, policy: str, round: int, asked: Asked) -> list[float]:
    """Rates within the SLO in this round, up to the first that is not."""
    out = []
    for at, rate in enumerate(ramp.rates):
        cell = next((c for c in ramp.cells if (c.round, c.level, c.policy) == (round, at, policy)), None)
        rows = [row for row in ramp.rows if (row.round, row.level, row.policy) == (round, at, policy)]
        if cell is None or cell.cut or not holds(rows, cell, asked.slo, asked.attain):
            break
        out.append(rate)
    return out


def _table(path: Path, kind: type[Any]) -> Iterator[Any]:
    decode = msgspec.json.Decoder(kind).decode
    return (decode(line) for line in path.read_bytes().splitlines())


def _short(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value
