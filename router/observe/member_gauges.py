"""A pool's members on the metrics page."""

from collections.abc import Callable, Iterator, Sequence

import msgspec
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from router.steps import StepModel

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
    cost: StepModel | None = None  #: of an engine


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
    yield from _cost_families([(member.model, member.cost) for member in members if member.cost is not None])


_STEP = "What the step model says that a step takes: itself, and each sequence, token held and prompt token in it."
_ERROR = "Median relative error of what the step model predicted, and the router of answers' lengths."
#: Name and text of a gauge, and its value by the label `of`.
_COST_GAUGES: tuple[tuple[str, str, Callable[[StepModel], dict[str, float]]], ...] = (
    (
        "member_step_seconds",
        _STEP,
        lambda cost: {
            "step": cost.step_s,
            "sequence": cost.running_s,
            "held_token": cost.context_s,
            "prompt_token": cost.prefill_s,
        },
    ),
    (
        "member_cost_error_ratio",
        _ERROR,
        lambda cost: {
            "window": cost.error_window,
            "first_token": cost.error_first_token,
            "output_token": cost.error_output_token,
            "length": cost.error_length,
        },
    ),
    (
        "member_cost_trust_ratio",
        "How far decisions go by the step model.",
        lambda cost: {"cost": cost.cost_trust, "wait": cost.wait_trust},
    ),
)


def _cost_families(costs: Sequence[tuple[str, StepModel]]) -> Iterator[Metric]:
    for name, text, values_of in _COST_GAUGES:
        family = GaugeMetricFamily(PREFIX + name, text, labels=["model", "of"])
        for model, cost in costs:
            for of, value in values_of(cost).items():
                family.add_metric([model, of], value)
        yield family
    slowdown = GaugeMetricFamily(
        PREFIX + "member_slowdown_ratio",
        "By how much one other engine of the same devices, always busy, slows its steps.",
        labels=["model"],
    )
    windows = CounterMetricFamily(
        PREFIX + "member_cost_windows",
        "Windows that the step model learnt from, or cut as outliers.",
        labels=["model", "as"],
    )
    for model, cost in costs:
        slowdown.add_metric([model], cost.slowdown)
        windows.add_metric([model, "learnt"], cost.windows - cost.cut)
        windows.add_metric([model, "cut"], cost.cut)
    yield slowdown
    yield windows
