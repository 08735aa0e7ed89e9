"""`headgate.yaml` as one tree of frozen structs, with one branch for each room.

A number's type gives its bounds (`bounds`); `checks` applies them, whether a file, a flag or code has set it.
"""

from typing import Any, Literal

import msgspec

from router.config.bounds import (
    Age,
    Bytes,
    Count,
    Engines,
    HeadBytes,
    Ids,
    OutputTokens,
    Pause,
    Percent,
    Places,
    Port,
    Price,
    Rate,
    Seconds,
    SegmentBytes,
    Share,
    Tokens,
    Unit,
    Wait,
)
from router.config.objective import Objective
from router.config.rules import Rule
from router.types import Capability, Choice

CONFIG_VERSION = 1
#: Fields of `Config` that are found out as it is read.
NOT_IN_FILES = frozenset({"expanded_at", "secret_variables"})
#: Fields of `Member` that are.
NOT_OF_MEMBERS = frozenset({"replica_of"})
#: Keys whose value, and all below it, is shown to nobody: neither in refusals nor on the admin port.
SECRET_KEYS = frozenset({"api_keys", "api_key", "host_secret", "env"})

#: What `mps_threads` of a member sets in its engine's environment.
MPS_THREADS = "CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"


class Limits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Bounds that keep memory a matter of configuration, not of traffic."""

    body_bytes: Bytes = 32 * 1024 * 1024
    header_bytes: HeadBytes = 64 * 1024
    headers: Count = 128
    connections: Count = 20_000
    in_flight: Count = 2_048  #: requests that may run at once; over it they wait
    queue_requests: Places | None = None  #: those that wait for one to end; over it 429. Default: `in_flight` / 4
    queue_s: Seconds = 10.0  #: a request that has waited for so long is refused, with 429
    #: Requests that would wait longer until a member has room for them are refused, with 429; null: they wait.
    wait_s: Seconds | None = None
    waiting: Count = 2_048  #: requests that wait for one engine or in it; when every engine has so many, 429
    pending_bytes: Bytes = 512 * 1024 * 1024  #: bodies kept until their first answer byte; over it 429
    header_timeout_s: Seconds = 10.0  #: from a request's first byte to the end of its headers
    body_timeout_s: Seconds = 60.0
    keepalive_s: Seconds = 75.0
    answer_bytes: Bytes = 256 * 1024 * 1024  #: of one that is not streamed; a larger one is an error
    stream_buffer_bytes: Bytes = 1 << 20  #: unsent answer bytes kept for a client that reads slowly
    write_timeout_s: Seconds = 60.0  #: a client that takes nothing for so long is cut
    drain_s: Wait = 30.0  #: after SIGTERM, running answers may take this long

    @property
    def queue_places(self) -> int:
        """`queue_requests`, or its default."""
        return self.in_flight // 4 if self.queue_requests is None else self.queue_requests


class ApiKey(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A key that clients present, and what holds for their requests."""

    key: str  #: of its SHA-256 digest the first 8 digits are the id by which it is shown
    choice: Choice | None = None  #: in the place of `routing.choice`, where a request says none; null: that


class Server(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where the doors are. `port: 0` lets the system choose."""

    host: str = "127.0.0.1"
    port: Port = 8000
    uds: str = ""  #: path of a Unix socket that takes the place of `host` and `port`
    root_path: str = ""  #: a proxy in front leaves this prefix on paths, `/llm` say; both ways of asking are answered
    admin_host: str = "127.0.0.1"
    admin_port: Port = 8001
    api_keys: tuple[str | ApiKey, ...] = ()  #: none: the public routes are open
    allowed_origins: tuple[str, ...] = ()  #: whose web pages may use the public routes; `*`: any
    request_id_headers: bool = False  #: every answer carries `x-request-id`, not those of inference alone
    adapter_routes: bool = False  #: LoRA adapters are loaded and unloaded on the public port too, as on vLLM's server
    list_auto: Literal["always", "several_members"] = "always"  #: when `/v1/models` has it; it is answered always
    docs: bool = True  #: `/docs` and `/openapi.json` tell everyone which routes there are
    io_uring: bool = True  #: tokens for many clients leave in one system call, where the kernel has it and lets us
    engine_metrics: bool = True  #: `/metrics` shows the engines' own (`vllm:`) families too
    limits: Limits = Limits()

    @property
    def keys(self) -> tuple[ApiKey, ...]:
        """`api_keys`."""
        return tuple(ApiKey(key=each) if isinstance(each, str) else each for each in self.api_keys)


class DeviceSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One device of this machine."""

    usd_per_hour: Price | None = None  #: of the whole device; default: `usd_per_hour` of the member that is charged


class Gpu(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What the engines that share devices have in common."""

    #: NVIDIA's MPS: kernels of several engines run on a device at once, not by turns. YAML reads `on` as true.
    mps: Literal["on", "off"] | bool = "off"

    @property
    def mps_on(self) -> bool:
        return self.mps in ("on", True)


class Sleep(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """When an engine gives its memory back."""

    after_s: Age  #: without a request
    level: Literal[1, 2] = 1  #: vLLM's: 1 keeps the weights in main memory, 2 drops them; on a CPU its process is ended


class Member(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One model of the pool: an engine that we start, or an OpenAI-compatible URL."""

    name: str
    kind: Literal["engine", "openai"] = "engine"
    also: tuple[str, ...] = ()  #: other names that it is asked for by
    replaces: str = ""  #: it is a canary: the member that it stands for, and as which it answers
    weight: Share = 0.05  #: of a canary: its share of what goes to that member
    model: str = ""  #: path or hub id of the weights; for `openai`, what to ask for (default: `name`, else its first)
    url: str = ""  #: for `openai`: base URL, with or without `/v1`; a query goes with every call
    api_key: str = ""  #: for `openai`: sent as a bearer token
    connect_timeout_s: Seconds = 20.0  #: for `openai`: until a connection is open, its host name looked up
    answer_timeout_s: Seconds = 3_600.0  #: for `openai`: until the end of a whole answer, which is silent before it
    silence_timeout_s: Seconds = 600.0  #: for `openai`: a stream that brings no whole event for so long is given up
    like: str = ""  #: score it as this model of the checkpoint
    strength: Unit | None = None  #: or by its MMLU-Pro accuracy, 0..1
    engine_args: dict[str, Any] = {}  #: vLLM's own argument names, with _ or -
    env: dict[str, str] = {}  #: added to the engine's environment
    #: Where the engine lives: a device's index or UUID, several with parallelism, or `cpu`. Default: where it fits.
    devices: tuple[int | str, ...] | str | None = None
    #: So many engines of this model, which clients see as one; or the devices of each: `[0, 1]`, `[[0, 1], [2, 3]]`.
    replicas: Engines | tuple[int | str | tuple[int | str, ...], ...] = 1
    replica_of: str = ""  #: of one of several engines: the model. Not in files: `config.replicas` makes such members
    mps_threads: Percent | None = None  #: of each of its devices' threads, under `gpu.mps`; null: all
    sleep: Sleep | None = None  #: of an engine: it sleeps when it is idle, and wakes for a request; null: it does not
    fast_path: bool = True  #: answer plain requests without vLLM's serving classes
    watch: bool = True  #: statistics of running answers in the engine, by which they can be stopped (docs/moments.md)
    capabilities: tuple[Capability, ...] | None = None  #: for `openai`; an engine tells its own
    context_tokens: Tokens = 0  #: for `openai`; an engine tells its own
    usd_per_hour: Price = 2.0  #: of one whole device, where the top-level `devices` gives it no price
    gpu_share: Share | None = None  #: of each of its devices; default: `gpu_memory_utilization`, else 1 / engines there
    prefill_tokens_per_s: Rate = 0.0  #: 0: learnt from load frames
    time_per_output_token_s: Wait = 0.0  #: 0: learnt from load frames
    mean_output_tokens: OutputTokens = 200.0  #: start value; then learnt


class Routing(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How decisions are made."""

    checkpoint: str = "default"  #: `default` or a path
    #: lambda: quality points given up to save one dollar. 100: a tenth of a point for a tenth of a cent, which is about
    #: what 200 tokens of an 8 B model cost on an H100.
    price: Price = 100.0
    threshold: Unit | None = None  #: RouteLLM's rule for `auto`: strongest iff its win rate reaches this
    slo_ttft_s: Seconds | None = None  #: members predicted to be slower are passed over while another is not
    judge: str = ""  #: the member that a causal_llm checkpoint asks; default: the one of the model it was trained with
    judge_timeout_s: Seconds = 2.0  #: a verdict that takes longer is done without
    retry: bool = True  #: a request that streamed nothing is tried once on another member
    #: When models are chosen: `before` the answer alone; also after a whole draft (`cascade`); also in the middle of an
    #: answer (`handoff`); `auto`: as is worth most, which without a `verifier` is `before`.
    choice: Choice = "auto"
    verifier: str = ""  #: artefact of `headgate train --router verifier`; empty: none
    hold_s: Wait = 20.0  #: most time that a stream's text is held back until a draft is judged; then it is streamed
    rules: tuple[Rule, ...] = ()  #: what is done with requests for which signals hold, in their order
    continue_lost: bool = True  #: an answer whose engine is lost goes on in another one


class Supervision(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How engine hosts are started, watched and restarted."""

    start_timeout_s: Seconds = 1_800.0
    stop_timeout_s: Wait = 10.0
    require: Literal["any", "all"] = "any"  #: members that must start, or the server ends; `any`: one of them
    restart: bool = True
    backoff_s: Seconds = 1.0  #: doubled at each failed restart
    backoff_max_s: Seconds = 60.0
    ping_s: Pause = 5.0  #: how often a silent host is asked
    ping_timeout_s: Seconds = 30.0
    breaker_failures: Count = 5  #: consecutive failures that open a member's breaker
    breaker_open_s: Seconds = 10.0
    runtime_dir: str = ""  #: default: a private folder under $XDG_RUNTIME_DIR or the system's temporary folder
    log_dir: str = ""  #: engine logs; default: `runtime_dir`
    host_secret: str = ""  #: what engine hosts want to be shown by who asks them; empty: reaching the socket is enough


class Journal(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Whether every request that ended is written down, and for how long it is kept."""

    path: str = ""  #: a folder of its own; empty: no journal is written
    prompts: bool = False  #: keep the conversations too, of bodies up to 256 KiB
    #: When a record is written: before the last byte of its answer leaves, or within a tick of the event loop after it.
    sync: Literal["record", "tick"] = "tick"
    fsync_s: Wait | None = None  #: at most so long until the disk has it; 0: with each write; null: as the system likes
    segment_bytes: SegmentBytes = 64 * 1024 * 1024  #: a file of more is followed by a new one
    segment_s: Age = 3_600.0  #: so is an older one
    keep_bytes: SegmentBytes = 1 << 30  #: of all files; over it the oldest are removed
    keep_s: Age = 30 * 86_400.0  #: older files are removed
    queue_bytes: Bytes = 16 * 1024 * 1024  #: waiting for the disk; over it records are dropped and counted
    #: So many of the last answers can be rated (`/v1/feedback`), some 250 bytes each; 0: none.
    feedback_ids: Ids = 100_000


class Batches(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """`/v1/files` and `/v1/batches`: many requests of one file, answered where the engines have slack."""

    path: str = ""  #: a folder of its own for files and results; empty: there are no batches
    running: Count = 16  #: lines that run at once in one member, at most
    #: Of lines' prompts that one engine reads at once, estimated; a longer prompt is read alone.
    prefill_tokens: Tokens = 2_048
    tries: Count = 3  #: of a line whose engine fails
    max_file_bytes: Bytes = 200 * 1024 * 1024
    max_files_bytes: Bytes = 10 * (1 << 30)  #: of all files and results together
    max_files: Count = 10_000  #: and as many batches
    max_lines: Count = 1_000_000  #: of one file
    max_line_bytes: Bytes = 4 * 1024 * 1024
    expiry_s: Age = 30 * 86_400.0  #: files and finished batches are removed after this, unless they say otherwise
    fsync_s: Wait = 1.0  #: at most so long until the disk has a result; 0: with each write


class Planning(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What `headgate plan` sizes engines for, and whether `serve` does as it says."""

    auto: bool = False  #: engines whose memory is not set get what the plan gives them
    prompt_tokens: Tokens = 1_000  #: of a mean request
    output_tokens: Tokens = 250
    concurrency: Rate | None = None  #: requests answered at once by the pool; null: not known
    memory_share: Share = 0.9  #: of a device's memory, by all that its engines hold
    context_bytes: Bytes = 512 << 20  #: CUDA's context, of one engine on one device
    graphs_bytes: Bytes = 672 << 20  #: CUDA graphs, of one engine on one device


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The whole file."""

    version: int = CONFIG_VERSION
    server: Server = Server()
    pool: tuple[Member, ...] = ()
    devices: dict[str, DeviceSettings] = {}  #: by index or UUID
    routing: Routing = Routing()
    objective: Objective = Objective()
    supervision: Supervision = Supervision()
    journal: Journal = Journal()
    batches: Batches = Batches()
    plan: Planning = Planning()
    gpu: Gpu = Gpu()
    #: Environment variables that keys were read from: engines do not inherit them. Not in the file, nor is the next.
    secret_variables: tuple[str, ...] = ()
    expanded_at: tuple[str, ...] = ()  #: where references stood, `$.pool[0].url`: what they brought is shown to nobody
