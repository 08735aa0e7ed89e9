"""The planner that a config asks for: its rule, its judge, its defaults."""

from router.config import Routing
from router.pipeline.legs.planner import Planner
from router.policy import plan
from router.verify.judging import fixed, load


def planner_of(routing: Routing) -> Planner:
    """By the verifier's artefact; without one by what is stated, and only where a request, a key or the config asks for
    it. Raises `ConfigError` where the artefact is refused."""
    judge = load(routing.verifier) if routing.verifier else fixed()
    return Planner(judge, plan, routing.choice, routing.hold_s)
