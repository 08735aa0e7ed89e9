"""Counts of the legs of requests that had several, as Prometheus families."""

from collections.abc import Iterator

from prometheus_client.metrics_core import CounterMetricFamily, Metric

from router.observe.member_gauges import PREFIX
from router.observe.record import Record

_LEGS = (
    "Legs behind others: of cascades, hand-overs and lost engines, by the same engine; and drafts that were dropped."
)
_TOKENS = "Completion tokens of requests of several legs, by who made them and whether a client was told."


class LegCounts:
    """As many labels as the pool has pairs of models."""

    def __init__(self) -> None:
        self._legs: dict[tuple[str, str, str], int] = {}
        self._tokens: dict[tuple[str, str], int] = {}

    def leg(self, what: str, model: str, to: str) -> None:
        """A leg follows one of `model`: `cascade`, `handoff` or `lost`, by the model `to`; `go_on`, by its own engine.
        Or a draft of `model` was `dropped`."""
        self._legs[what, model, to] = self._legs.get((what, model, to), 0) + 1

    def ended(self, record: Record) -> None:
        for leg in record.legs if len(record.legs) > 1 else ():
            if leg.completion_tokens:
                key = leg.model, "dropped" if leg.dropped else "told"
                self._tokens[key] = self._tokens.get(key, 0) + leg.completion_tokens

    def families(self) -> Iterator[Metric]:
        """None before the first leg of its kind."""
        if self._legs:
            legs = CounterMetricFamily(f"{PREFIX}legs", _LEGS, labels=("what", "model", "to"))
            for names, count in self._legs.items():
                legs.add_metric(names, count)
            yield legs
        if self._tokens:
            tokens = CounterMetricFamily(f"{PREFIX}leg_tokens", _TOKENS, labels=("model", "as"))
            for labels, count in self._tokens.items():
                tokens.add_metric(labels, count)
            yield tokens
