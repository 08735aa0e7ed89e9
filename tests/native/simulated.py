"""Engines and runs of the native simulator, for its tests."""

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from router.learn.simulate.pool import Engine, Known, Law
from router.native.simulator import Simulator
from router.policy import Settings

#: Seconds of a step, of a row, of a token held, of a prompt token: an 8B on a large GPU, about.
LAW = Law(step_s=6e-3, running_s=1.2e-4, context_s=4e-8, prefill_s=3e-5)
AS_MANY = 1 << 40


def engine(law: Law = LAW, usd_per_s: float = 1e-3, **fields: Any) -> Engine:
    made = Engine(model=0, law=law, known=Known(usd_per_s=usd_per_s), step_tokens=8192)
    return msgspec.structs.replace(made, **fields)


def simulator(
    engines: Sequence[Engine], at_s: Sequence[float], prompt: Sequence[int], output: Any, *, models: int = 1,
    cached: Sequence[int] | None = None, score: Any = None, rules: Sequence[Settings] = (Settings(),),
    rule: Sequence[int] | None = None, in_flight: int = AS_MANY, places: int = 512, queue_s: float = 10.0,
    seed: int = 0, max_tokens: Sequence[int] | None = None,
) -> Simulator:  # fmt: skip
    """Loaded, and not begun."""
    size = len(at_s)
    made = Simulator(
        engines, models, rules, in_flight=in_flight, places=places, queue_s=queue_s, report_s=0.05, seed=seed
    )
    made.load(
        np.asarray(at_s, np.float64), np.asarray(np.zeros(size) if rule is None else rule, np.int32),
        np.asarray(prompt, np.int32), np.asarray(prompt, np.int32),
        np.asarray(np.zeros(size) if cached is None else cached, np.int32),
        np.asarray(np.full(size, -1) if max_tokens is None else max_tokens, np.int32),
        np.ascontiguousarray(np.broadcast_to(np.asarray(output, np.int32).reshape(size, -1), (size, models))),
        np.ones((size, models)) if score is None else np.ascontiguousarray(score, np.float64),
    )  # fmt: skip
    return made


def run(*args: Any, **kwargs: Any) -> Any:
    """The columns of the results, and the simulator that made them."""
    made = simulator(*args, **kwargs)
    while made.advance(1000):
        pass
    return made.results(), made
