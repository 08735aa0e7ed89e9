"""A host's question whether it may load its engine: asked once its arguments are read, answered by its supervisor.

Pools start their hosts side by side. What each of them does first, importing vLLM and reading its arguments, disturbs
no other engine, and finds out what is wrong with an argument before any engine loads.
"""

import logging
import os
import select

import msgspec

from router.ipc.spec import ArgumentRefusal, HostSpec

logger = logging.getLogger("headgate.host")


class SupervisorGone(KeyboardInterrupt):
    """It ended instead of answering: the host ends in silence, too."""


def wait_for_turn(spec: HostSpec, refusal: ArgumentRefusal | None = None) -> None:
    """Say that the arguments are read, or why one is refused; without a refusal return when it is our turn. Blocks: a
    host has nothing else to do. Raises `SupervisorGone`."""
    if spec.asks_fd < 0:
        return
    with os.fdopen(spec.asks_fd, "wb") as asks:
        asks.write(msgspec.json.encode(refusal) + b"\n")
    if refusal is not None:
        return
    logger.info("arguments are read")  # by `router/pool/stages.py`
    select.select((0,), (), ())  # the event loop has made it non-blocking
    if not os.read(0, 1):
        raise SupervisorGone
    logger.info("loading the engine")  # the same


def look_at_names(spec: HostSpec) -> None:
    """Refuse a name that vLLM does not have before it is imported: in a tenth of a second, not in ten. Raises
    `ConfigError`."""
    from router.host.adapter import arguments
    from router.host.adapter.names import names

    if spec.engine_args and (known := names()):
        try:
            arguments.look_at_names(spec, known)
        except arguments.ArgumentRefused as error:
            wait_for_turn(spec, ArgumentRefusal(key=error.key, why=error.why))
            raise
