"""The frames between a frontend and an engine host. Fields are appended, never moved or retyped within a version.

    +----------------+---------------------------------------------+
    | length, u32 LE | msgpack of one Message, array_like + tagged |
    +----------------+---------------------------------------------+

Releases of one protocol version understand each other: decoders, the native ones too (csrc/frame.hpp), accept missing
and extra trailing fields. `PROTOCOL_VERSION` rises when a field is moved, retyped or removed; peers of another version
are refused, peers of another release are not. docs/decisions/007-frames.md tells which fields there are and why.
"""

from typing import Literal, TypeAlias

import msgspec

from router.steps import StepSums
from router.types import Adapter, Kind, Timings, Usage
from router.watched import Continued, Figures

PROTOCOL_VERSION = 2

#: Frames above this are refused: a broken peer must not make us allocate without bound.
MAX_FRAME_BYTES = 64 * 1024 * 1024

#: The longest page of one engine's metrics, in bytes of UTF-8.
MOST_METRICS_BYTES = 4 * 1024 * 1024

ControlOp = Literal[
    "ping", "pong", "drain", "drained", "sleep", "wake", "stop", "done", "refused", "metrics", "hand_over", "give_up"
]


class Hello(msgspec.Struct, tag=0, array_like=True, frozen=True, gc=False, kw_only=True):
    """First frame both ways. A host sends its own once its engine is ready to serve and it has let the other in.

    An owner may drain the engine, put it to sleep, wake and stop it, and its connection's end stops the host. There is
    one, and two while it is handed over; whoever else asks for answers is a client.
    """

    version: int = PROTOCOL_VERSION
    role: str = "client"  #: owner | client | host
    model: str = ""  #: the name the host answers under
    capabilities: tuple[str, ...] = ()
    context_tokens: int = 0
    kv_tokens: int = 0  #: tokens that the KV cache can hold
    max_running: int = 0  #: the scheduler's bound on concurrent sequences
    secret: bytes = b""  #: of an owner or client, where the host wants one
    engine_version: str = ""  #: e.g. `vllm 0.32.0`
    pid: int = 0
    #: of a host: the verbs of `Control` and kinds of `Submit` that it takes beyond those of the first protocol 2.
    #: Others must not be sent: a release that does not know one ends the connection.
    verbs: tuple[str, ...] = ()
    adapters: tuple[Adapter, ...] = ()  #: of a host: the LoRA adapters that its engine has


class Submit(msgspec.Struct, tag=1, array_like=True, frozen=True, gc=False, kw_only=True):
    """One request for the engine. `body` is the client's JSON, untouched; the host ignores its `model`."""

    id: int  #: unique on this connection
    kind: Kind
    body: bytes
    request_id: str = ""
    traceparent: str = ""
    deadline_s: float = 0.0  #: seconds from receipt; 0 for none
    priority: int = 0  #: lower runs earlier, as in vLLM
    #: text of a partial answer that this engine continues, empty for none
    continue_text: str = ""
    #: `WatchSettings` as JSON, empty for no watch; of hosts whose Hello names the verb `watch`
    watch: bytes = b""
    #: the LoRA adapter that answers, one of those of `Hello`; empty for the model itself
    adapter: str = ""
    #: of `continue_text`: what the client was told of it; of hosts whose Hello names the verb `continue`
    continued: Continued | None = None
    #: only read the prompt, with `continue_text`, into the prefix cache, and answer nothing but `Done`; of hosts whose
    #: Hello names the verb `warm`
    warm: bool = False


class Abort(msgspec.Struct, tag=2, array_like=True, frozen=True, gc=False):
    """The client of `id` is gone: stop generating. No answer is expected; later frames of `id` are ignored."""

    id: int


class Chunks(msgspec.Struct, tag=3, array_like=True, frozen=True, gc=False):
    """Response-body bytes of one event-loop tick, in order: SSE events, or the JSON body when not streaming.

    What is larger than a few MiB comes in pieces, in this frame and those after it.
    """

    items: list[tuple[int, bytes]]


class Done(msgspec.Struct, tag=4, array_like=True, frozen=True, gc=False, kw_only=True):
    """`id` finished well; its last chunk came before."""

    id: int
    usage: Usage = Usage()
    finish_reason: str = "stop"
    timings: Timings = Timings()
    figures: Figures | None = None  #: of an answer that was watched
    #: normalised logits at the first token, of the fixed choice of them, as float16; empty where nobody asked
    first_logits: bytes = b""


class Fail(msgspec.Struct, tag=5, array_like=True, frozen=True, gc=False, kw_only=True):
    """`id` ended in an error. `body` is an OpenAI error object as JSON."""

    id: int
    status: int
    body: bytes
    code: str = ""
    #: nothing was wrong with the request itself: another member may try it
    retryable: bool = False


class Handoff(msgspec.Struct, tag=6, array_like=True, frozen=True, gc=False, kw_only=True):
    """The watch stopped the answer of `id`: another model should continue `text`, or the same, where it was right."""

    id: int
    text: str  #: of the whole answer up to here, with what `continue_text` had
    tokens: int  #: that this engine made of it
    why: str
    usage: Usage = Usage()
    timings: Timings = Timings()
    figures: Figures | None = None
    first_logits: bytes = b""  #: as in `Done`
    #: for `Submit.continued` of the engine that goes on
    continued: Continued = Continued()


class Load(msgspec.Struct, tag=7, array_like=True, frozen=True, gc=False, kw_only=True):
    """The engine's state, at most every 50 ms and on change. Rates are moving averages, 0 while unknown."""

    running: int = 0
    waiting: int = 0
    kv_use: float = 0.0  #: 0..1
    prefix_hit: float = 0.0  #: share of prompt tokens served from the prefix cache, 0..1
    prefill_tokens_per_s: float = 0.0
    time_per_output_token_s: float = 0.0  #: of one stream
    context_tokens: int = 0  #: that the sequences hold which have their first token
    sums: StepSums = StepSums()


class Control(msgspec.Struct, tag=8, array_like=True, frozen=True, gc=False):
    """`ping` -> `pong`; `drain` -> `drained` once nothing runs; `sleep`, `wake` -> `done`, an error as its argument;
    `stop` ends the host.

    `metrics` -> `metrics`, the engine's own metrics as its argument: Prometheus text, empty where there is none. For
    everybody, of hosts whose Hello names the verb.

    `hand_over` -> `hand_over`: the process whose id is the argument may join as a second owner; `0`: none may.
    `give_up` -> `give_up`: the one who asks is a client from now on, where another owner has joined. Both of hosts
    whose Hello names them.

    A host does `drain`, `sleep`, `wake`, `stop`, `hand_over` and `give_up` for its owners only: a client gets
    `refused`, with why as its argument, and nothing changes. `refused` before the host's Hello: the peer is not let in,
    and the connection ends.
    """

    op: ControlOp
    argument: str = ""


Message: TypeAlias = Hello | Submit | Abort | Chunks | Done | Fail | Handoff | Load | Control
