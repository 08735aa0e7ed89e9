"""The vLLM arguments that Headgate itself sets or refuses, by name. vLLM documents what each of them does."""

from collections.abc import Iterable, Mapping
from typing import Any, Final

_MODEL = "is set by the member's `model`, not here"
_NAME = "is set by the member's `name`, not here"
_PROXY = "is set by a proxy in front of `server`, not here"
_PAGES = "has no effect: `server.allowed_origins` alone says which pages may read answers"
_API = "has no effect: Headgate is the API server"
_DOORS = "has no effect: Headgate's own HTTP has no such setting"
_LIMITS = "is set by `server.limits`, not here"
_LOG = "has no effect: it is about vLLM's HTTP log, and Headgate has one of its own"
_ROUTE = "has no effect: it is about a route that Headgate does not have"
_PARALLEL = "has no effect: vLLM's supervisor does not run under Headgate"

#: vLLM's options that Headgate answers for itself, and where they are set instead.
OURS: Final[Mapping[str, str]] = {
    "model": _MODEL,
    "model_tag": _MODEL,
    "served_model_name": _NAME,
    "host": "is set by `server.host`, not here",
    "port": "is set by `server.port`, not here",
    "uds": "is set by `server.uds`, not here",
    "root_path": "is set by `server.root_path`, not here",
    "api_key": "is set by `server.api_keys`, not here",
    "allowed_origins": "is set by `server.allowed_origins`, not here",
    **dict.fromkeys(("allow_credentials", "allowed_methods", "allowed_headers"), _PAGES),
    **dict.fromkeys(("ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "ssl_cert_reqs", "ssl_ciphers"), _PROXY),
    "enable_ssl_refresh": _PROXY,
    **dict.fromkeys(("api_server_count", "headless", "grpc", "grpc_port", "tokens_only"), _API),
    **dict.fromkeys(("middleware", "sse_keep_alive_interval"), _DOORS),
    **dict.fromkeys(("h11_max_incomplete_event_size", "h11_max_header_count"), _LIMITS),
    **dict.fromkeys(("uvicorn_log_level", "disable_uvicorn_access_log", "disable_access_log_for_endpoints"), _LOG),
    "enable_request_id_headers": "is set by `server.request_id_headers`, not here",
    "disable_fastapi_docs": "is set by `server.docs`, not here",
    "enable_offline_docs": "has no effect: `/docs` loads nothing foreign as it is",
    "enable_server_load_tracking": "has no effect: `/load` always counts",
    "cohere_is_reasoning_model": _ROUTE,
    **dict.fromkeys(
        (
            "data_parallel_supervisor_port",
            "dp_supervisor_probe_interval_s",
            "dp_supervisor_probe_timeout_s",
            "dp_supervisor_probe_failure_threshold",
        ),
        _PARALLEL,
    ),
    "config": "is set by `engine_args` itself: give each argument by name",
}


def argument_name(name: str) -> str:
    """One spelling for a vLLM argument: `--max-model-len`, `max-model-len` and `max_model_len` are one."""
    return name.lstrip("-").replace("-", "_")


def by_argument_name(engine_args: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by vLLM's own names, however they are spelled."""
    return {argument_name(key): value for key, value in engine_args.items()}


def switched_on(value: object) -> bool:
    """Of an argument that is a switch, whether it is on: a config may hold it as a word."""
    return value in (True, "true", "True")


def not_here(given: Iterable[str]) -> tuple[str, str] | None:
    """The first of these argument names that is none of `engine_args`, as it is written, and what is said of it."""
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
