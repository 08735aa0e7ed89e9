"""Requests as vLLM's `AsyncLLM` hands them to its output processor and its core."""

import time
from typing import Any


def core_request(id: str, external: str, prompt_token_ids: list[int], sampling: Any) -> Any:
    """`external`: the id as it was asked for, before vLLM made its own of it."""
    from vllm.v1.engine import EngineCoreRequest

    request = EngineCoreRequest(
        request_id=id,
        prompt_token_ids=prompt_token_ids,
        mm_features=None,
        sampling_params=sampling,
        pooling_params=None,
        arrival_time=time.time(),
        lora_request=None,
        cache_salt=None,
        data_parallel_rank=None,
    )
    request.external_req_id = external
    return request
