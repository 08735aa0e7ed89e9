"""Opens the native steps of plain chat requests on a port, where the pipeline has them."""

from router.frontend.answer import TARGET, Answer, describe
from router.frontend.door import Door
from router.frontend.reply import Heads
from router.native.steps import Steps
from router.pipeline.base import Service


def open_intake(door: Door, service: Service) -> None:
    """Take plain chat requests of `door` natively from now on, and count which steps were native."""
    intake = service.intake
    door.steps = Steps() if intake is None else intake.requests.steps
    door.metrics.watch_steps(door.steps.rows)
    if intake is not None:
        heads = Heads(door, Answer, intake.requests, intake.names, describe)
        intake.open(door.metrics, TARGET, heads, door.keys.find if door.keys else None)
    door.intake = intake
