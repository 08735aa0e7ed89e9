"""Counters of a running server, as its `/metrics` says them."""

import time
import urllib.request

from prometheus_client.parser import text_string_to_metric_families

from router.observe.metrics import PAGE_KEPT_S


class Counters:
    """One reading: all that had happened before it is counted."""

    def __init__(self, url: str) -> None:
        time.sleep(PAGE_KEPT_S)  # a page made before is not shown again
        with urllib.request.urlopen(f"{url}/metrics", timeout=30) as answer:
            page: str = answer.read().decode()
        self._samples = [sample for family in text_string_to_metric_families(page) for sample in family.samples]

    def value(self, name: str, **labels: str) -> float:
        """The sum of those samples that have all of `labels`; 0 where there is none."""
        found = [one.value for one in self._samples if one.name == name and labels.items() <= one.labels.items()]
        return float(sum(found))
