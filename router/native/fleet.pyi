"""The engines of a pool's models, of which each model has one or several, and which of them a request would go to.

Of a few engines all are compared, of many two that are drawn and those that got most of the prompt before; the one that
is predicted to finish first takes it (csrc/replicas.hpp). Who got which prompts: csrc/prefixes.hpp. Called from the
event loop's thread.
"""

from collections.abc import Sequence

from router.native.lane import Lane
from router.native.steering import Steering
from router.types import Query

class Fleet:
    """Of one pool, which may change; what is known of the engines' caches stays."""

    groups: list[list[Lane]]  #: by model
    models: tuple[str, ...]  #: names
    steering: Steering | None  #: of decisions on these engines; None: nobody steers
    def __init__(self, groups: Sequence[Sequence[Lane]], models: Sequence[str], seed: int = 0) -> None:
        """`seed`: of what is drawn. Raises ValueError where a model has no engine."""

    def hold(self, groups: Sequence[Sequence[Lane]], models: Sequence[str]) -> None:
        """The pool is another one from now on."""

    def pick(
        self,
        query: Query,
        prompt_tokens: int,
        settings: object,
        now_s: float,
        barred: Lane | None = None,
        only: Lane | None = None,
    ) -> Picks:
        """`settings`: `policy.Settings`. `now_s`: of `time.monotonic`. `barred`: an engine that may not take it, where
        its model has another; `only`: the one of its model that may."""

class Picks:
    """Of one request: an engine of each model as it was then, with what it is expected to have of the prompt."""

    models: tuple[str, ...]
    context_tokens: list[int]  #: 0: not known
    def replica(self, model: int) -> int:
        """Which of the model's engines."""

    def note(self, model: int) -> float:
        """The request goes to that model's engine: share of its prompt that the engine was sent before; below 0: not
        known."""
