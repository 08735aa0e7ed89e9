"""Flags of `vllm serve` that are none of its engine: the keys of `server` that they set, and those that need nothing.

All others are known by vLLM's own parser alone, or stand in `engine_args.OURS` with the place where they go.
"""

from collections.abc import Mapping
from typing import Final

#: vLLM's name, and the key of `server` that it sets.
SERVER_KEYS: Final[Mapping[str, str]] = {
    "host": "host",
    "port": "port",
    "uds": "uds",
    "root_path": "root_path",
    "api_key": "api_keys",
    "allowed_origins": "allowed_origins",
    "disable_fastapi_docs": "docs",
    "enable_request_id_headers": "request_id_headers",
}
#: What these ask for is so anyway: no request is logged, `/load` always counts, `/docs` loads nothing foreign, and one
#: process serves as many clients.
ANYWAY: Final = frozenset({
    "api_server_count", "disable_access_log_for_endpoints", "disable_uvicorn_access_log", "enable_offline_docs",
    "enable_server_load_tracking", "uvicorn_log_level",
})  # fmt: skip
