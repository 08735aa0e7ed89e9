"""The common request's way in native code, from the bytes of one read to a frame, and its answer.

Common is: one whole HTTP/1.1 POST of a plain chat body, no header that asks for anything, and a choice that takes
frames and whose breaker is closed. Everything else is left to the ordinary way, with which this one agrees to the byte.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from router.errors import RouterError
from router.native.call import Call, Receivers
from router.native.lane import Lane
from router.native.pipe import Outbox, Pipe
from router.native.policy import Numbers
from router.native.scorer import Scorer
from router.native.slots import Slots
from router.native.spec import TurnWeights
from router.native.steps import Steps
from router.types import Decision, Scores, Segment

class Passage(Call):
    """One request on the common way: a connection's exchange, a lane's call and its receiver, in one object.

    Whatever ends it otherwise than well makes an ordinary request of it first (`Express.open`, `unfold`).
    """

    connection: Pipe
    member: int
    stream: bool
    answer: bytes | None  #: a whole answer, before it is sent
    body: bytes
    key_id: str
    session_id: str  #: empty where the client names none; so is `traceparent`
    request_id: str
    traceparent: bytes
    decision: Decision  #: told anew at each reading
    numbers: Numbers  #: of the decision
    received_s: float  #: of `time.perf_counter`
    overhead_s: float
    asked: bytes  #: the `model` that was asked for, empty for none
    first_s: float  #: from its receipt to the first bytes of its answer
    ended_s: float  #: of `time.perf_counter`
    finished: bool  #: it ended well; what follows is then known
    usage: tuple[int, int, int]  #: prompt, completion, cached tokens
    timings: tuple[float, float]  #: seconds to the first token and in all, by the engine's clock
    finish_reason: str | None
    error: RouterError | None  #: that a begun stream ended in
    keep_alive: bool
    receiver: Passage
    def exchange(self) -> Any:
        """The ordinary exchange that it becomes by this."""

    def done(self, done: Any) -> None: ...
    def fail(self, failure: Any) -> None: ...
    def handoff(self, handoff: Any) -> None: ...
    def refuse(self, error: Any) -> None: ...
    def gone(self) -> None: ...
    def end(self) -> None:
        """No longer counted; of those that `take_ended` returns."""

class Express:
    """The way through one pool. Called from the event loop's thread only; scoring releases the GIL."""

    outbox: Outbox
    names: tuple[str, ...]  #: of the members, in the pool's order
    decision_prefix: str
    steps: Steps
    left: int  #: why `take` took nothing: a cause of `router.native.steps`
    given_id: bytes | None  #: the client's `x-request-id`, as it is echoed, of the request that `take` read last
    holds_ends: bool  #: an answer's last byte waits for its record: every answer ends the ordinary way
    keeps_bodies: bool  #: `Passage.body` is there at the end too
    wake: Callable[[], None]  #: called when a passage has ended and none before it since the last `take_ended`
    def __init__(
        self,
        slots: Slots,
        requests: set[Any],
        lanes: Sequence[Lane],
        names: Sequence[str],
        next_decision: Callable[[], int],
        decision_prefix: str,
        limits: Any,
        io_uring: bool = True,
    ) -> None:
        """`slots`: those of the gate; `requests` holds all that is in flight. `names` are those of the lanes, in the
        pool's order. `limits`: `config.Limits`. `io_uring`: of the outbox, which all lanes share from now on."""

    def decide_by(
        self,
        head: Scorer | Callable[[Sequence[Segment]], Scores],
        turns: TurnWeights,
        rules: Mapping[str, Any],
        settings: Callable[[str], Any],
    ) -> None:
        """From now on. `head`: a native one, or what scores in Python. `rules`: `policy.Settings` by model name, `auto`
        among them; `settings` gives those of names that carry a number."""

    def decide(self, body: bytes) -> str | None:
        """Which member would answer a chat body; nothing is handed over. None where it is not a common one."""

    def open(
        self,
        door: Any,
        target: str,
        unfold: Callable[[Passage], tuple[Any, Any]],
        next_request: Callable[[], int],
        request_prefix: str,
        replies: Receivers,
        find_key: Callable[[bytes, bytes], str] | None,
    ) -> None:
        """Serve `target` of `door`. `unfold` makes the ordinary exchange and request of a passage. `replies` writes the
        answers. `find_key`: the id of the key in the values of `authorization` and `x-api-key`; None: none is asked
        for."""

    def close(self) -> None:
        """Take nothing, until `decide_by` is called again."""

    def take_ended(self) -> list[Passage]:
        """The passages that have ended since the last call; those that ended well are now counted in the metrics."""

    def take(self, connection: Pipe, data: bytes) -> Passage | None:
        """The request in `data`, decided and handed over; None, and nothing done, where it is not a common one."""
