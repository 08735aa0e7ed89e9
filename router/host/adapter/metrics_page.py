"""The `vllm:` families of this process as Prometheus text, one family a turn of the event loop."""

import asyncio
import logging
from typing import Any

from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from vllm.v1.metrics.prometheus import get_prometheus_registry

from router.ipc.messages import MOST_METRICS_BYTES

logger = logging.getLogger("headgate.host")

_PREFIX = "vllm:"


class _Alone:
    """A registry of one family."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Metric]:
        return [self._metric]


async def metrics_page(member: str) -> str:
    """vLLM's families as its own `/metrics` shows them, in its multiprocess mode too; each sample has one label more,
    `member`. Families that would make it longer than `MOST_METRICS_BYTES` are left out."""
    parts: list[str] = []
    size = 0
    for metric in get_prometheus_registry().collect():
        if not metric.name.startswith(_PREFIX):
            continue
        text = generate_latest(_Alone(_labelled(metric, member))).decode()
        size += len(text)
        if size > MOST_METRICS_BYTES:
            logger.warning("metrics: %s and what follows it are left out: too long", metric.name)
            break
        parts.append(text)
        await asyncio.sleep(0)  # answers go on meanwhile
    return "".join(parts)


def _labelled(metric: Any, member: str) -> Metric:
    copy = Metric(metric.name, metric.documentation, metric.type, metric.unit)
    copy.samples = [sample._replace(labels={**sample.labels, "member": member}) for sample in metric.samples]
    return copy
