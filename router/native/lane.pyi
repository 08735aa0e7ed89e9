"""A pool member as native steps see it: how loaded it is, which calls it owes answers, where its frames go.

Called from one event loop's thread. The figures: csrc/load.hpp.
"""

from collections.abc import Callable
from typing import Protocol, TypedDict

from router.native.writer import SendBatch
from router.steps import StepModel, StepSums
from router.types import Timings, Usage

class _LoadFrame(Protocol):
    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def kv_use(self) -> float: ...
    @property
    def prefix_hit(self) -> float: ...
    @property
    def prefill_tokens_per_s(self) -> float: ...
    @property
    def time_per_output_token_s(self) -> float: ...
    @property
    def context_tokens(self) -> int: ...
    @property
    def sums(self) -> StepSums: ...

class Figures(TypedDict):
    """Fields of `MemberState` of the same names."""

    running: int
    waiting: int
    kv_use: float
    prefix_hit: float
    prefill_tokens_per_s: float
    time_per_output_token_s: float
    mean_output_tokens: float
    output_surplus: float
    queued_gpu_s: float
    held_tokens: int
    queued_tokens: float
    queued_steps: float
    busy: float
    step_s: float
    step_running_s: float
    step_context_s: float
    step_prefill_s: float
    overhead_s: float
    cost_trust: float
    wait_trust: float

class LaneLoad:
    """Load frames, plus what was submitted since the last one, plus rates learnt from finished answers."""

    in_flight: int
    changes: int  #: grows with everything that a decision could notice
    most_running: int  #: sequences that the engine runs at once; 0: not known, and it always has room
    lined: int  #: requests that wait before it, until it has room
    @property
    def ends(self) -> int:
        """Requests that have ended there, since the start."""

    @property
    def served_s(self) -> float:
        """The engine's seconds of those that were answered, summed."""

    @property
    def room(self) -> bool:
        """Whether a request that is handed over now starts at once, or is one of the two that wait in the engine so
        that no step idles."""

    @property
    def open(self) -> bool:
        """The same, and no request waits before it."""
    def __init__(
        self,
        mean_output_tokens: float = 0.0,
        prefill_tokens_per_s: float = 0.0,
        time_per_output_token_s: float = 0.0,
    ) -> None:
        """A start value, and two rates that stay as they are where they are not 0."""

    def reported(self, told: _LoadFrame) -> None:
        """A load frame came."""

    def forget(self) -> None:
        """The engine is gone: its queue with it. Rates stay: its successor is the same model on the same GPU."""

    def emptied(self) -> None:
        """Its prefix cache holds nothing any more."""

    def worked_s(self) -> float:
        """Seconds that the engine has worked since the last `learn`."""

    def learn(self, others: float, busy: float) -> bool:
        """From the steps since the last time, in which the other engines of its devices were busy for `others` of the
        time, summed over them, and all of them for `busy`, 1 at most. False: there was nothing to learn from."""

    def model(self) -> StepModel: ...
    def kept(self) -> list[float]:
        """What `restore` takes beside the model."""

    def restore(self, kept: list[float], model: StepModel) -> bool:
        """False, and no change, where these are no such numbers."""

    def submitted(
        self, prompt_tokens: int, id: int = 0, matched: float = -1.0, output_tokens: float = 0, output_log_sd: float = 0
    ) -> None:
        """`id`: of the request in the engine; 0: nothing is expected of it. `matched`: share of its prompt that the
        engine was sent before; below 0: not known. `output_tokens`, `output_log_sd`: as of `types.Scores`; 0: none."""
    def ended(self) -> None:
        """A request finished, failed or was aborted."""

    def answered(self, usage: Usage, timings: Timings, id: int = 0, cut: bool = False) -> None:
        """Learn from a finished answer. Zeroes mean unknown. `id`: as it was submitted. `cut`: at its bound."""

    def figures(self) -> Figures: ...

class Lane:
    """One engine's calls, and what a decision must know of it."""

    load: LaneLoad
    calls: dict[int, object]  #: by id: what is still owed an answer
    last_id: int
    send: Callable[[bytes], None] | None  #: takes a whole frame; None while none can be sent
    ready: bool
    framed: bool  #: it takes frames; a URL does not
    continues: bool  #: its engine can go on with the text of another's answer
    trusted: bool  #: its breaker is closed, and counts no failure: it need not hear of a success
    probed: bool  #: its breaker is not closed: it must hear of a request that goes to the member
    open_until_s: float  #: its breaker sends requests elsewhere before this time of `time.monotonic`; 0 while closed
    capabilities: int  #: bits, in the order of `types.Capability`
    context_tokens: int
    usd_per_s: float
    surcharge: float  #: on that price, as a share of it; 0: none
    canary_of: int  #: index of the member that it stands for, where `canary_weight` is above 0
    canary_weight: float  #: share of that member's requests which it takes; 0: it is no canary
    replica: int  #: which of its model's engines it is
    owner: object  #: the member
    meters: object  #: `native.meters.Meters`, once requests are taken
    about: list[bytes] | None  #: lines of an answer's head, by reason
    batch: SendBatch  #: what `pass_on` sends by: shared by the lanes of a pool
    def __init__(self, load: LaneLoad, usd_per_s: float) -> None: ...
    def charge(self, surcharge: float, cause: str) -> None:
        """By what its price stands above the bought one, and why: a word of `types.Cause`."""

    def described(self, capabilities: frozenset[str], context_tokens: int) -> None:
        """What the engine can do, and how long its context is; 0: not known."""
