"""Prices, and what the objective reaches, on the metrics page."""

from collections.abc import Iterator
from typing import get_args

from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from router.observe.member_gauges import PREFIX
from router.policy.prices import PricesTold
from router.types import Cause


def price_families(told: PricesTold) -> Iterator[Metric]:
    yield from _device_families(told)
    yield _one("price_quality_per_usd", "Lambda: quality points that one dollar is worth.", told.price)
    aim, reached = f"objective_{told.objective}_aim", f"objective_{told.objective}_reached"
    if told.aim is not None:
        yield _one(aim, "What the objective asks for, in its own unit.", told.aim)
        yield _one("objective_broken", "Whether the objective is not held, for some time now.", bool(told.broken))
    if told.reached is not None:
        about = "What is reached of it lately; of a quality, as predicted."
        yield _one(reached, about, told.reached)


def _device_families(told: PricesTold) -> Iterator[Metric]:
    ratio = GaugeMetricFamily(
        PREFIX + "device_price_ratio", "Price of a device's time, over the bought one.", labels=["device"]
    )
    usd = GaugeMetricFamily(
        PREFIX + "device_price_usd_per_hour", "Price of an hour of a device's time.", labels=["device"]
    )
    why = GaugeMetricFamily(
        PREFIX + "device_price_cause", "1: the price is above the bought one because of this.", labels=["device", "why"]
    )
    for device in told.devices:
        ratio.add_metric([device.device], device.factor)
        usd.add_metric([device.device], device.factor * device.usd_per_hour)
        for cause in get_args(Cause):
            if cause and cause not in ("budget", "quality"):
                why.add_metric([device.device, cause], float(device.cause == cause))
    yield from (ratio, usd, why)


def _one(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=float(value))
