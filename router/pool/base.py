"""What the pipeline sees of a pool member, and what a member sees of a request.

A member knows its engine or URL, how loaded it is and whether it can be trusted now; nothing of HTTP, scores or policy.
"""

from typing import Literal, NamedTuple, Protocol

import msgspec

from router.errors import RouterError
from router.ipc.messages import Done, Handoff
from router.native.lane import Lane
from router.pool.sleep import SleepState
from router.pool.stages import StartProgress
from router.steps import StepModel
from router.types import Kind, MemberState, Scores
from router.watched import Continued

#: `parked`: its process is ended to give the memory back, and is started again for a request.
MemberPhase = Literal["waiting", "starting", "ready", "asleep", "parked", "restarting", "failed", "draining", "stopped"]


class MemberStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One member as an operator sees it."""

    name: str
    kind: str
    phase: MemberPhase
    state: MemberState
    restarts: int = 0
    last_error: str = ""
    pid: int = 0
    engine_version: str = ""
    in_flight: int = 0
    lined: int = 0  #: requests that wait before it until it has room
    most_running: int = 0  #: sequences that it runs at once; 0: not known
    devices: tuple[str, ...] = ()  #: by index; empty: the CPU, another machine, or all devices of this one
    memory_share: float | None = None  #: of each of its devices; None: as vLLM decides
    usd_per_hour: float = 0.0  #: of what it holds
    start: StartProgress | None = None  #: of an engine that starts
    adapters: tuple[str, ...] = ()  #: names of its LoRA adapters
    replaces: str = ""  #: of a canary: the member that it stands for
    weight: float = 0.0  #: of a canary: its share of that member's requests
    sleep: SleepState | None = None  #: of one that sleeps when it is idle
    wake_s: float = 0.0  #: that it takes to wake, as learnt; 0: not known
    sleeps: int = 0  #: so often it fell asleep
    cost: StepModel | None = None  #: of an engine: what its steps take
    model: str = ""  #: of one of several engines of a model: by which clients ask for it


class Length(NamedTuple):
    """What the head expects of an answer's length, as `types.Scores` has it; 0: not known."""

    output_tokens: float = 0.0
    output_log_sd: float = 0.0

    @classmethod
    def of(cls, scores: Scores, member: int, choices: int) -> "Length":
        """Nothing of several choices, which are counted as one (csrc/policy.hpp: `length_of`)."""
        if choices != 1 or not scores.output_tokens:
            return cls()
        return cls(scores.output_tokens[member], scores.output_log_sd[member] if scores.output_log_sd else 0.0)


class Work(msgspec.Struct, frozen=True, kw_only=True):
    """One request for a member, and the size that its cost is counted by."""

    kind: Kind
    body: bytes  #: the client's JSON; its `model` is the member's to replace
    stream: bool = False
    request_id: str = ""
    prompt_tokens: int = 0  #: estimate
    matched: float = -1.0  #: share of its prompt that the member was sent before; below 0: not known
    length: Length = Length()  #: expected of the answer
    deadline_s: float = 0.0  #: seconds from now; 0 for none
    traceparent: str = ""
    adapter: str = ""  #: the LoRA adapter of the member that is to answer; empty for the model itself
    priority: int = 0  #: lower runs earlier
    watch: bytes = b""  #: `WatchSettings` as JSON; empty for none. A member that cannot watch does without
    continue_text: str = ""  #: of an answer that another engine began; of members whose host can `continue`
    continued: Continued | None = None  #: what the client was told of it
    warm: bool = False  #: only read the prompt into the prefix cache; of members whose host can `warm`


class Failure(msgspec.Struct, frozen=True):
    """How a request failed in a member."""

    error: RouterError
    retryable: bool = False  #: another member may try it
    context: bool = False  #: only a member with a larger context may
    lost: bool = False  #: the engine was lost together with it


class Call(Protocol):
    """One submitted request, a `native.call.Call`: any number of `chunk`, then exactly one of `done`, `handoff` and
    `fail`, or none after `PoolMember.abort`. Called from the event loop's thread, never from within `submit`.
    """

    lane: Lane | None
    id: int
    atypical: bool

    @property
    def started(self) -> bool: ...

    def chunk(self, data: bytes) -> None: ...

    def done(self, done: Done) -> None: ...

    def handoff(self, handoff: Handoff) -> None: ...

    def fail(self, failure: Failure) -> None: ...


class PoolMember(Protocol):
    """One model that answers."""

    def submit(self, work: Work, call: Call) -> None:
        """Hand `work` over; `call` is told of its answer. Raises `NoEngine` or `Overloaded` when it cannot be taken."""
        ...

    def abort(self, call: Call) -> None:
        """Stop generating; `call` hears no more of it. Harmless where it has ended, or is another member's."""
        ...

    def state(self) -> MemberState:
        """Readiness, load and rates at this moment."""
        ...

    def status(self) -> MemberStatus: ...

    async def start(self) -> None:
        """Return once it can serve. Raises `EngineStartError` with the engine's own last words."""
        ...

    async def stop(self) -> None:
        """Fail what still runs, release everything. Idempotent."""
        ...
