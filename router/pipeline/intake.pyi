"""From the bytes of one read to a request handed over: the steps of a plain chat request, natively.

Plain is: one whole HTTP/1.1 POST of a plain chat body, no header that asks for anything, and a choice that takes frames
and whose breaker is closed. Everything else is declined and left to Python, which answers it to the byte as this would;
nothing is refused here. Called from the event loop's thread; scoring releases the GIL.
"""

from collections.abc import Callable, Mapping, Sequence

from router.config import Limits
from router.native.call import Receiver
from router.native.fleet import Fleet
from router.native.request import BaseRequest, Receivers, Requests
from router.native.scorer import Scorer
from router.native.spec import TurnWeights
from router.native.writer import SendBatch, Writer
from router.observe.metrics import Metrics
from router.policy import Settings
from router.types import Scores, Segment

def draw_of(text: str) -> float:
    """Above 0, at most 1: of a session, or of a decision that belongs to none; the same text always draws the same."""

class Intake:
    """Of one pool."""

    names: tuple[str, ...]  #: of the models, in the pool's order
    requests: Requests
    batch: SendBatch
    framed: bool  #: a member takes frames: else nothing can be taken
    left: int  #: why `take` took nothing: a cause of `router.native.steps`
    given_id: bytes | None  #: the client's `x-request-id`, as it is echoed, of the request that `take` read last
    def __init__(
        self,
        requests: Requests,
        request_class: type[BaseRequest],
        fleet: Fleet,
        next_request: Callable[[], int],
        next_decision: Callable[[], int],
        limits: Limits,
        io_uring: bool = True,
    ) -> None:
        """`request_class`: of what it makes, without calling `__init__`. The two numbers make ids. `io_uring`: of the
        batch, which all lanes share from now on."""

    def hold(self, fleet: Fleet, edition: int = 0) -> None:
        """The pool is another one from now on: of these engines and models. Nothing is taken until
        `decide_by` is called; what was taken before stays with its lane. `edition`: of the pool, for its requests."""

    def decide_by(
        self,
        head: Scorer | Callable[[Sequence[Segment]], Scores],
        turns: TurnWeights,
        rules: Mapping[str, Settings],
        settings: Callable[[str], Settings],
    ) -> None:
        """From now on. `head`: a native one, or what scores in Python. `rules`: by model name, `auto` among them;
        `settings` gives those of names that carry a number."""

    def decide_auto_by(self, names: Sequence[str], settings: Settings) -> None:
        """From now on, for requests of these names, and those that name no model."""

    def decide(self, body: bytes) -> str | None:
        """Which member would answer a chat body; nothing is handed over. None where it is not a plain one."""

    def open(
        self,
        metrics: Metrics,
        target: str,
        replies: Receivers,
        about: Callable[[str, str], str],
        find_key: Callable[[bytes, bytes], str] | None = None,
    ) -> None:
        """Take requests for `target`. `replies` makes their answers. `about`: header lines for a member's name and a
        reason. `find_key`: the id of the key in the values of
        `authorization` and `x-api-key`; None: none is asked for."""

    def close(self) -> None:
        """Take nothing, until `decide_by` is called again."""

    def count(self, ended: Sequence[BaseRequest]) -> None:
        """Those of them that native code began and ended well, in the metrics."""

    def take(self, connection: Writer, data: bytes) -> Receiver | None:
        """The request in `data`, decided and handed over: its answer. None, and nothing done, where it is declined."""
