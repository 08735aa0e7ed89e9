"""Opens the native steps of plain chat requests on a port, where the pipeline has them."""

from router.frontend.answer import TARGET, Answer, describe
from router.frontend.listener import Listener
from router.frontend.reply import Heads
from router.native.steps import Steps
from router.pipeline.service import Service


def open_intake(listener: Listener, service: Service) -> None:
    """Take plain chat requests of `listener` natively from now on, and count which steps were native."""
    intake = service.intake
    listener.steps = Steps() if intake is None else intake.requests.steps
    listener.metrics.watch_steps(listener.steps.rows)
    if intake is not None:
        heads = Heads(listener, Answer, intake.requests)
        intake.open(listener.metrics, TARGET, heads, describe, listener.keys.find_plain if listener.keys else None)
    listener.intake = intake
