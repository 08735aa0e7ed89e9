"""vLLM's arguments by name, as far as Headgate itself has a say. What each of them does, vLLM knows."""

from collections.abc import Iterable, Mapping
from typing import Final

_PAGES = "`server`: no page of another origin may read answers unless it is told so there"
_TLS = "a TLS proxy in front of `server`"
_API = "nothing: Headgate is the API server"
_DOORS = "nothing: Headgate's own doors take no such setting"
_LIMITS = "`server.limits`"
_LOG = "nothing: Headgate's `--log-level` and its own log take its place"
_ROUTE = "nothing: the route that it is about is none of Headgate's"
_PARALLEL = "nothing: no supervisor of vLLM's runs under Headgate"

#: vLLM's options that Headgate answers for itself, and where they are set instead.
OURS: Final[Mapping[str, str]] = {
    "model": "the member's `model`",
    "model_tag": "the member's `model`",
    "served_model_name": "the member's `name`",
    "host": "`server.host`",
    "port": "`server.port`",
    "uds": "`server`",
    "root_path": "a proxy in front of `server`",
    "api_key": "`server.api_keys`",
    "allow_credentials": _PAGES,
    "allowed_origins": _PAGES,
    "allowed_methods": _PAGES,
    "allowed_headers": _PAGES,
    **dict.fromkeys(
        ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "ssl_cert_reqs", "ssl_ciphers", "enable_ssl_refresh"), _TLS
    ),
    **dict.fromkeys(("api_server_count", "headless", "grpc", "grpc_port", "enable_scale_out", "tokens_only"), _API),
    **dict.fromkeys(("middleware", "enable_request_id_headers", "sse_keep_alive_interval"), _DOORS),
    **dict.fromkeys(("h11_max_incomplete_event_size", "h11_max_header_count"), _LIMITS),
    **dict.fromkeys(("uvicorn_log_level", "disable_uvicorn_access_log", "disable_access_log_for_endpoints"), _LOG),
    **dict.fromkeys(
        (
            "disable_fastapi_docs",
            "enable_offline_docs",
            "enable_tokenizer_info_endpoint",
            "enable_server_load_tracking",
            "cohere_is_reasoning_model",
        ),
        _ROUTE,
    ),
    **dict.fromkeys(
        (
            "data_parallel_supervisor_port",
            "dp_supervisor_probe_interval_s",
            "dp_supervisor_probe_timeout_s",
            "dp_supervisor_probe_failure_threshold",
        ),
        _PARALLEL,
    ),
    "config": "`engine_args`",
}


def argument_name(name: str) -> str:
    """One spelling for a vLLM argument: `--max-model-len`, `max-model-len` and `max_model_len` are one."""
    return name.lstrip("-").replace("-", "_")


def not_here(given: Iterable[str]) -> tuple[str, str] | None:
    """The first of these argument names that is not set by `engine_args`, as it is written, and where it is set."""
    for key in given:
        where = OURS.get(argument_name(key)) or OURS.get(argument_name(key).removeprefix("no_"))
        if where is not None:
            return key, where
    return None


def twice(given: Iterable[str]) -> str:
    """An argument that stands there in two spellings; empty where none does."""
    seen: set[str] = set()
    for key in given:
        if (name := argument_name(key)) in seen:
            return key
        seen.add(name)
    return ""
