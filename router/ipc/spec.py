"""What a supervisor tells an engine host at its start, as one JSON line on the host's standard input; and which of
vLLM's own routes act on an engine.

The pipe stays open for the host's life: end of file means that the supervisor is gone, and the host ends too.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from router.types import Adapter

LOAD_ADAPTER: Final = "/v1/load_lora_adapter"
#: The code of a refused load: vLLM answers with 500, which then says nothing of the engine's health.
ADAPTER_REFUSED: Final = "adapter_refused"
UNLOAD_ADAPTER: Final = "/v1/unload_lora_adapter"

#: vLLM's routes that act on an engine, and their methods: asked on the admin port, by member.
ENGINE_ROUTES: Final[Mapping[str, str]] = {
    "/sleep": "POST",
    "/wake_up": "POST",
    "/is_sleeping": "GET",
    "/reset_prefix_cache": "POST",
    "/reset_mm_cache": "POST",
    "/reset_encoder_cache": "POST",
    "/start_profile": "POST",
    "/stop_profile": "POST",
    LOAD_ADAPTER: "POST",
    UNLOAD_ADAPTER: "POST",
}


class HostSpec(msgspec.Struct, frozen=True, kw_only=True):
    """One engine to hold."""

    name: str  #: the model name that answers carry
    model: str  #: path or hub id, passed to vLLM
    socket: str  #: Unix socket to listen on, created 0600
    engine_args: dict[str, Any] = {}  #: vLLM engine and frontend arguments by vLLM's own names
    fast_path: bool = True  #: render and stream plain requests without vLLM's serving classes
    secret: str = ""  #: what owner and clients must show; empty: whoever reaches the socket is let in
    load_interval_s: float = 0.05
    stream_buffer_bytes: int = 1 << 20  #: unsent answer bytes kept for one stream before it is cut
    watch: bool = True  #: put statistics of answers, and their stop, into the engine where its vLLM takes them
    #: compile before the engine is said to be ready what the first request with logprobs would compile, for seconds
    warm_up: bool = True
    metrics: bool = True  #: keep the engine's own metrics, for who asks
    #: loaded once the engine is ready, beside those of `engine_args`; one that does not fit is left out
    adapters: tuple[Adapter, ...] = ()
    #: A descriptor to which it writes one line, `null` or an `ArgumentRefusal` as JSON, once vLLM is imported and has
    #: read the arguments; it goes on when a byte comes on its standard input. -1: it does not ask.
    asks_fd: int = -1
    label: str = ""  #: `member` in these metrics; empty: `name`. A canary answers as the member that it stands for


class ArgumentRefusal(msgspec.Struct, frozen=True, kw_only=True):
    """What `python -P -m router.host.check` found, of a list of specs, or a host of its own."""

    index: int = 0  #: of the spec
    key: str  #: of its `engine_args`, as written; empty where several are to blame
    why: str


class EngineCall(msgspec.Struct, frozen=True, kw_only=True):
    """The body of a request of kind `admin`, a call of one of vLLM's own routes of `ENGINE_ROUTES`, or `stored`, of
    those below `STORED_PATH`."""

    path: str
    query: str = ""
    body: str = ""  #: JSON, or nothing


class ServeFlags(msgspec.Struct, frozen=True, kw_only=True):
    """What `python -P -m router.host.flags` found in the words of a `vllm serve` command line."""

    refusal: str = ""  #: the flag and why, or what vLLM's parser says; all else is empty then
    model: str = ""  #: path or hub id
    names: tuple[str, ...] = ()  #: under which it is served; none: under `model`
    server: dict[str, Any] = {}  #: keys of `server` in the config
    engine_args: dict[str, Any] = {}  #: all others, by vLLM's names
    anyway: tuple[str, ...] = ()  #: flags that ask for what Headgate does without being asked
