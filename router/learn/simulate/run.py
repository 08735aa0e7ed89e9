"""One run: traffic through a pool in simulated time. No clock: as fast as the processor goes."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import numpy.typing as npt

from router.errors import ConfigError
from router.learn.simulate.pool import Pool
from router.learn.simulate.traffic import Floats, Traffic
from router.native.simulator import STATUSES, Simulator
from router.policy import Settings

if TYPE_CHECKING:
    from router.native.simulator import EngineTotals

REPORT_S = 0.05  #: between load frames of an engine host, at least
_ARRIVALS = 20_000  #: between two tellings of how far it is
ANSWERED = STATUSES.index("answered")

Progress = Callable[[float], None]


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Columns by request. Seconds from its arrival, the engine's overhead included; NaN where it was not answered."""

    pool: Pool
    traffic: Traffic
    status: npt.NDArray[np.uint8]  #: index in `STATUSES`
    model: npt.NDArray[np.int32]  #: -1: none
    gate_s: Floats  #: waited at the gate
    first_s: Floats
    total_s: Floats
    output: npt.NDArray[np.int32]  #: tokens of its answer
    engines: list["EngineTotals"]
    seconds: float  #: until the last request ended
    decisions: int
    events: int
    preemptions: int

    @property
    def answered(self) -> npt.NDArray[np.bool_]:
        return np.asarray(self.status == ANSWERED)


def simulate(
    pool: Pool, traffic: Traffic, *, seed: int = 0, settings: Settings | None = None,
    progress: Progress = lambda share: None,
) -> Outcome:  # fmt: skip
    """`settings`: how `auto` is decided, in place of the pool's. `progress` is told the share that has ended."""
    if traffic.names != pool.names:
        raise ConfigError(f"expected traffic for {', '.join(pool.names)}, got it for {', '.join(traffic.names)}")
    engines = pool.engines()
    made = Simulator(
        engines, len(pool.models), [settings or pool.settings, *traffic.rules], in_flight=pool.in_flight,
        places=pool.places, queue_s=pool.queue_s, report_s=REPORT_S, seed=seed,
    )  # fmt: skip
    size = len(traffic.at_s)
    asked = np.zeros(size, np.int32) if traffic.rule is None else (traffic.rule + 1).astype(np.int32)
    most = np.full(size, -1, np.int32) if traffic.max_tokens is None else traffic.max_tokens
    estimate = traffic.prompt if traffic.estimate is None else traffic.estimate
    try:
        made.load(
            traffic.at_s, asked, traffic.prompt, estimate, traffic.cached, most, traffic.output, traffic.score,
            *(traffic.lengths or ()),
        )  # fmt: skip
    except ValueError as error:
        raise ConfigError(f"{traffic.about}: {error}") from error
    while made.advance(_ARRIVALS):
        progress(made.ended / size)
    progress(1.0)
    return _outcome(pool, traffic, made)


def _outcome(pool: Pool, traffic: Traffic, made: Simulator) -> Outcome:
    found = made.results()
    engines = pool.engines()
    answered = found["status"] == ANSWERED
    of = np.array([engine.model for engine in engines], np.int32)
    overhead = np.array([engine.known.overhead_s for engine in engines])
    at = np.maximum(found["engine"], 0)
    gone = np.where(answered, overhead[at], np.nan)
    return Outcome(
        pool=pool, traffic=traffic, status=found["status"],
        model=np.where(answered, of[at], -1).astype(np.int32),
        gate_s=np.where(answered, found["gate_s"] - traffic.at_s, np.nan),
        first_s=found["first_s"] - traffic.at_s + gone, total_s=found["end_s"] - traffic.at_s + gone,
        output=np.where(answered, found["output"], 0).astype(np.int32), engines=made.engines(), seconds=made.now_s,
        decisions=made.decisions, events=made.events, preemptions=int(found["preempted"].sum()),
    )  # fmt: skip
