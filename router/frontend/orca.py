"""ORCA: a member's load in a header of its answer, for load balancers that ask for it, as vLLM's server tells it."""

import json
from typing import Final

from router.types import MemberState

ASKED_BY: Final = b"endpoint-load-metrics-format"


def load_header(format: str, state: MemberState) -> str:
    """The header's line; none for a format that is neither `TEXT` nor `JSON`."""
    named = {"num_requests_waiting": float(state.waiting), "kv_cache_usage_perc": float(state.kv_use)}
    match format.lower():
        case "text":
            report = "TEXT " + ", ".join(f"named_metrics.{name}={value}" for name, value in named.items())
        case "json":
            report = "JSON " + json.dumps({"named_metrics": named})
        case _:
            return ""
    return f"endpoint-load-metrics: {report}\r\n"
