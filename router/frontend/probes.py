"""What probes and tools ask without a key: whether the process lives, a model can answer, load, version, metrics.

`/health`, `/ping`, `/load` and `/version` answer as those of vLLM's server, for which probes and tools were written.
"""

import re
from collections.abc import Callable

import msgspec

from router.frontend.exchange import Exchange
from router.frontend.routes import Route
from router.frontend.scrape import show_metrics
from router.observe.metrics import Metrics
from router.pipeline.service import Service
from router.version import __version__

_encode = msgspec.json.Encoder().encode
#: What an engine calls itself; anything else that a host says is shown to nobody here.
_VLLM = re.compile(r"vllm ([0-9A-Za-z.+_-]{1,64})")
_LATER = "retry-after: 1\r\n"


def probes(service: Service, metrics: Metrics, draining: Callable[[], bool]) -> tuple[Route, ...]:
    """`/live`: this process serves. `/health`: some member can answer. `/ready`: so, and new requests are welcome
    (`degraded`: another member cannot). `/load`: requests that run. `/metrics`: for Prometheus."""

    def live(exchange: Exchange) -> None:
        exchange.respond(200, b'{"status":"ok"}')

    def ready(exchange: Exchange) -> None:
        members = service.members()
        leaving = draining()
        able = not leaving and any(member.state.ready for member in members)
        degraded = any(not member.state.ready for member in members)
        status = "draining" if leaving else "not ready" if not able else "degraded" if degraded else "ready"
        said: dict[str, object] = {"status": status, "members": {member.name: member.phase for member in members}}
        if starting := {member.name: member.start for member in members if member.start is not None}:
            said["starting"] = starting
        exchange.respond(200 if able else 503, _encode(said), headers="" if able else _LATER)

    def load(exchange: Exchange) -> None:
        exchange.respond(200, _encode({"server_load": service.in_flight()}))

    def version(exchange: Exchange) -> None:
        exchange.respond(200, _encode({"version": engines_version(service) or __version__, "headgate": __version__}))

    def scrape(exchange: Exchange) -> None:
        show_metrics(exchange, metrics)

    return (
        Route("/live", {"GET": live}, open=True, about="this process serves"),
        Route("/health", {"GET": _health(service)}, open=True, about="a member can answer"),
        Route("/ready", {"GET": ready}, open=True, about="a member can answer, and new requests are taken"),
        Route("/load", {"GET": load}, open=True, about="requests that have not ended"),
        Route("/version", {"GET": version}, open=True, about="vLLM's and ours"),
        Route("/metrics", {"GET": scrape}, open=True, about="for Prometheus: ours, and the engines'"),
    )


def sagemaker_ping(service: Service) -> Route:
    """`/ping` of SageMaker: as `/health`, by either method."""
    health = _health(service)
    return Route("/ping", {"GET": health, "POST": health}, open=True, about="SageMaker's /health")


def engines_version(service: Service) -> str:
    """vLLM's version where all engines run the same one; else empty."""
    told = {member.engine_version for member in service.members() if member.kind == "engine"}
    match = _VLLM.fullmatch(told.pop()) if len(told) == 1 else None
    return match[1] if match else ""


def _health(service: Service) -> Callable[[Exchange], None]:
    """In a drain still 200: who restarts what is unhealthy would cut the answers that may finish."""

    def health(exchange: Exchange) -> None:
        if any(member.state.ready for member in service.members()):
            exchange.respond(200, b'{"status":"ok"}')
        else:
            exchange.respond(503, b'{"status":"no model can answer"}', headers=_LATER)

    return health
