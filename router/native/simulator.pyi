"""A pool in simulated time (csrc/simulation.hpp): the policy that serves, on engines whose steps take what the step
model says. For `router.learn.simulate`; the serving process never imports it."""

from collections.abc import Sequence
from typing import Protocol, TypedDict

import numpy as np
import numpy.typing as npt

#: How a request ended, by `status`: answered, or why not.
STATUSES: tuple[str, ...]

class _Law(Protocol):
    @property
    def step_s(self) -> float: ...
    @property
    def running_s(self) -> float: ...
    @property
    def context_s(self) -> float: ...
    @property
    def prefill_s(self) -> float: ...
    @property
    def slowdown(self) -> float: ...

class _Known(Protocol):
    @property
    def usd_per_s(self) -> float: ...
    @property
    def overhead_s(self) -> float: ...
    @property
    def mean_output_tokens(self) -> float: ...
    @property
    def prefill_tokens_per_s(self) -> float: ...
    @property
    def time_per_output_token_s(self) -> float: ...
    @property
    def cost_error(self) -> float: ...
    @property
    def first_token_error(self) -> float: ...
    @property
    def output_token_error(self) -> float: ...
    @property
    def has_model(self) -> bool: ...

class _Engine(Protocol):
    @property
    def model(self) -> int: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def law(self) -> _Law: ...
    @property
    def known(self) -> _Known: ...
    @property
    def most_running(self) -> int: ...
    @property
    def step_tokens(self) -> int: ...
    @property
    def kv_tokens(self) -> int: ...
    @property
    def block_tokens(self) -> int: ...
    @property
    def beside(self) -> Sequence[int]: ...

class Results(TypedDict):
    """A column each, by request. Seconds of simulated time, without what is known as overhead; below 0: never."""

    status: npt.NDArray[np.uint8]
    engine: npt.NDArray[np.int32]  #: -1: none
    gate_s: npt.NDArray[np.float64]  #: passed the gate
    first_s: npt.NDArray[np.float64]
    end_s: npt.NDArray[np.float64]
    output: npt.NDArray[np.int32]
    preempted: npt.NDArray[np.int32]  #: how often

class EngineTotals(TypedDict):
    steps: int
    worked_s: float
    preemptions: int
    prefill_tokens: int
    output_tokens: int

class Simulator:
    """One run: make it, `load` the requests once, `advance` until it returns False, then read."""

    requests: int
    ended: int  #: so far
    decisions: int
    events: int
    now_s: float
    def __init__(
        self,
        engines: Sequence[_Engine],
        models: int,
        rules: Sequence[object],
        *,
        in_flight: int,
        places: int,
        queue_s: float,
        report_s: float,
        seed: int,
    ) -> None:
        """`engines`: each of one of `models` models, by index; `rules`: `policy.Settings`, indices in these models.
        `in_flight`, `places`, `queue_s`: of the gate. `report_s`: between load frames. Raises ValueError."""

    def load(
        self,
        at_s: npt.NDArray[np.float64],
        rule: npt.NDArray[np.int32],
        prompt: npt.NDArray[np.int32],
        estimate: npt.NDArray[np.int32],
        cached: npt.NDArray[np.int32],
        max_tokens: npt.NDArray[np.int32],
        output: npt.NDArray[np.int32],
        score: npt.NDArray[np.float64],
        expected: npt.NDArray[np.float64] | None = None,
        log_sd: npt.NDArray[np.float64] | None = None,
    ) -> None:
        """Requests [n] in order of time. `estimate`: tokens of the prompt as decisions take it; `max_tokens` below 0:
        not given; `output`, `score` [n, models]: how long the answer of each model would be, and how good it is
        predicted to be; `expected`, `log_sd` [n, models]: what decisions expect of that length, as `types.Scores` has
        it. C-contiguous. Raises ValueError naming the request."""

    def advance(self, arrivals: int) -> bool:
        """Until so many more have arrived, and to the end behind the last. False: all have ended. Releases the GIL."""

    def results(self) -> Results: ...
    def engines(self) -> list[EngineTotals]:
        """Of each engine, in the order given."""
