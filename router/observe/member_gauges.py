"""A pool's members on the metrics page."""

from collections.abc import Callable, Iterator, Sequence

import msgspec
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

PREFIX = "headgate_"


class MemberGauges(msgspec.Struct, frozen=True, kw_only=True):
    """One member at the moment of a scrape."""

    model: str
    ready: bool
    breaker_open: bool
    running: int
    waiting: int
    kv_use: float  #: 0..1
    prefix_hit: float  #: 0..1
    in_flight: int
    restarts: int
    asleep: bool = False
    wake_s: float = 0.0  #: that it takes to wake


_MEMBER_GAUGES: tuple[tuple[str, str, Callable[[MemberGauges], float]], ...] = (
    ("member_ready", "Whether the member takes requests.", lambda member: member.ready),
    ("member_breaker_open", "Whether the member's breaker is open.", lambda member: member.breaker_open),
    ("member_running", "Sequences that the engine runs.", lambda member: member.running),
    ("member_waiting", "Sequences that wait in the engine.", lambda member: member.waiting),
    ("member_in_flight", "Requests handed to the member and unfinished.", lambda member: member.in_flight),
    ("member_kv_use_ratio", "Share of KV blocks in use.", lambda member: member.kv_use),
    ("member_prefix_hit_ratio", "Share of prompt tokens found in the prefix cache.", lambda member: member.prefix_hit),
    ("member_asleep", "Whether the member sleeps, and wakes for a request.", lambda member: member.asleep),
    ("member_wake_seconds", "How long it takes to wake, as learnt.", lambda member: member.wake_s),
)


def member_families(members: Sequence[MemberGauges]) -> Iterator[Metric]:
    for name, text, value_of in _MEMBER_GAUGES:
        family = GaugeMetricFamily(PREFIX + name, text, labels=["model"])
        for member in members:
            family.add_metric([member.model], float(value_of(member)))
        yield family
    restarts = CounterMetricFamily(PREFIX + "member_restarts", "Restarts of the member's engine.", labels=["model"])
    for member in members:
        restarts.add_metric([member.model], member.restarts)
    yield restarts
