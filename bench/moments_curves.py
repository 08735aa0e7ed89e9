"""Accuracy over engine seconds: a policy's settings as a curve, and how far one curve lies below others."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from moments_asking import Turn


@dataclass
class Point:
    """One setting of a policy, all blocks together."""

    policy: str
    writer: str  #: of the draft, or of all; empty: Headgate chooses
    parameter: float
    scores: list[float] = field(default_factory=list)
    seconds: float = 0.0
    small_tokens: int = 0
    large_tokens: int = 0

    def add(self, turn: Turn) -> None:
        self.scores += turn.scores
        self.seconds += turn.engine_s
        self.small_tokens += turn.tokens["small"]
        self.large_tokens += turn.tokens["large"]

    @property
    def accuracy(self) -> float:
        return sum(self.scores) / len(self.scores)

    @property
    def engine_s(self) -> float:
        """Of a question."""
        return self.seconds / len(self.scores)

    @property
    def large_share(self) -> float:
        """Of all tokens that were made."""
        return self.large_tokens / max(1, self.large_tokens + self.small_tokens)

    def told(self) -> dict[str, Any]:
        return {
            "writer": self.writer, "parameter": self.parameter, "accuracy": round(self.accuracy, 4),
            "engine_s": round(self.engine_s, 5),
            "large_share": round(self.large_share, 4),
        }  # fmt: skip

    def __str__(self) -> str:
        return f"accuracy {self.accuracy:.3f}, engine {self.engine_s * 1e3:.1f} ms, large {self.large_share:.2f}"


class Curve(NamedTuple):
    points: tuple[Point, ...]  #: the cheapest first

    def cheapest(self, accuracy: float) -> Point | None:
        """The one that takes the fewest engine seconds of those that reach `accuracy`."""
        reached = [point for point in self.points if point.accuracy >= accuracy]
        return min(reached, key=lambda point: point.engine_s) if reached else None

    def at(self, engine_s: float) -> Point | None:
        """The best that takes no more than that."""
        within = [point for point in self.points if point.engine_s <= engine_s]
        return max(within, key=lambda point: point.accuracy) if within else None


def by_policy(points: Iterable[Point]) -> dict[str, Curve]:
    found: dict[str, list[Point]] = {}
    for point in points:
        found.setdefault(point.policy, []).append(point)
    return {name: Curve(tuple(sorted(of, key=lambda point: point.engine_s))) for name, of in found.items()}


def worst_gap(ours: Curve, others: Sequence[Curve]) -> tuple[float, float]:
    """The least lead in accuracy of our settings over the best other setting at no higher cost, and twice the standard
    error of that paired difference. Without a setting to compare, nothing is behind."""
    worst, noise = math.inf, 0.0
    for point in ours.points:
        rivals = [rival for curve in others if (rival := curve.at(point.engine_s)) is not None]
        best_of_ours = ours.at(point.engine_s) or point
        for rival in rivals:
            gaps = [a - b for a, b in zip(best_of_ours.scores, rival.scores, strict=True)]
            mean = sum(gaps) / len(gaps)
            if mean < worst:
                variance = sum((gap - mean) ** 2 for gap in gaps) / max(1, len(gaps) - 1)
                worst, noise = mean, 2 * math.sqrt(variance / len(gaps))
    return (0.0, 0.0) if worst == math.inf else (worst, noise)
