"""The host's protocols: an engine that answers requests, and the receiver of one answer.

Knows neither sockets nor vLLM; tests implement the engine by a script.
"""

from collections.abc import Callable
from typing import Protocol

import msgspec

from router.ipc.messages import Handoff, Load, Submit
from router.types import Adapter, Usage
from router.watched import Figures

#: What is said of an engine that is gone; its own last words may say more.
DIED = "the engine died"
#: What is left of an error's message: it may quote the request.
MOST_MESSAGE = 8_000


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine can do, told to each peer that is let in."""

    capabilities: tuple[str, ...] = ("chat", "completions")
    context_tokens: int = 0
    kv_tokens: int = 0  #: tokens that the KV cache can hold
    max_running: int = 0  #: the scheduler's bound on concurrent sequences
    version: str = ""  #: e.g. `vllm 0.32.0`
    adapters: tuple[Adapter, ...] = ()
    verbs: tuple[str, ...] = ()  #: of `Hello.verbs`, those that depend on the engine


class ErrorAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Why an answer ended in an error. `body` is an OpenAI (or Anthropic) error object as JSON."""

    status: int
    body: bytes
    code: str = ""
    retryable: bool = False  #: nothing was wrong with the request itself


class AnswerSink(Protocol):
    """Who hears one answer: `chunk`*, then one of `done`, `handoff` and `fail`. Calls after the end are ignored."""

    def begun(self) -> None:
        """Its first token is there, though no chunk may follow before the last one is."""
        ...

    def chunk(self, data: bytes) -> None: ...

    def untimed(self) -> None:
        """Its first bytes are no token: no time to the first token is told."""
        ...

    def done(
        self, usage: Usage, finish_reason: str, figures: Figures | None = None, first_logits: bytes = b""
    ) -> None: ...

    def handoff(self, handed: Handoff) -> None:
        """Another engine is to go on. Its `id` and `timings` are not known here, and filled in."""
        ...

    def fail(self, failure: ErrorAnswer) -> None: ...


class Engine(Protocol):
    """One running engine. All calls and callbacks happen on the event loop's thread."""

    @property
    def facts(self) -> Facts: ...

    def start(self, submit: Submit, answer: AnswerSink) -> Callable[[], None]:
        """Begin to answer `submit`; `answer` is never called before this returns. Calling the result aborts."""
        ...

    def load(self) -> Load: ...

    async def control(self, op: str, argument: str) -> str:
        """`sleep` or `wake`. Returns an error to report, or empty."""
        ...

    async def metrics(self) -> str:
        """The engine's own metrics as Prometheus text, each sample with the label `member`; empty for none."""
        ...

    async def watch(self, load_changed: Callable[[], None]) -> str:
        """Call `load_changed` whenever `load()` may differ. Returns only when the engine is dead: why."""
        ...


def failure(
    status: int, message: str, type: str, *, code: str = "", param: str | None = None, retryable: bool = False
) -> ErrorAnswer:
    """A failure with OpenAI's error object as its body."""
    error = {"message": printable(message), "type": type, "param": param, "code": code or None}
    return ErrorAnswer(status=status, body=msgspec.json.encode({"error": error}), code=code, retryable=retryable)


def printable(message: str) -> str:
    """`message` as a client can be told it: of bounded length, and without what UTF-8 cannot say."""
    if len(message) > MOST_MESSAGE:
        message = f"{message[:MOST_MESSAGE]}... ({len(message) - MOST_MESSAGE} more characters)"
    return message.encode(errors="replace").decode()


def engine_failed(why: str) -> ErrorAnswer:
    """The engine died or broke down while it held the request."""
    return failure(502, why, "engine_error", code="engine_failed", retryable=True)


#: Of requests that name what to go on from, or are only to be read: what they need is written here, not by vLLM.
NOT_CONTINUED = failure(
    400,
    "this engine continues, or reads beforehand, only plain chat and completions of one choice, without logprobs, "
    "tools or structured output",
    "invalid_request_error",
    code="not_continuable",
)


def too_long(why: Exception) -> ErrorAnswer:
    """The prompt does not fit this model; another may have more room."""
    return failure(400, str(why), "invalid_request_error", code="context_length_exceeded", retryable=True)
