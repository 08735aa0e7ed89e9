"""The watch as a logits processor of vLLM's second model runner (V2), whose interface vLLM has from 0.31 on.

All that is known of a step is known on the host: nothing is read back from the device.
"""

from typing import Any

import numpy as np
from vllm.v1.worker.gpu.sample.logits_processor import LogitsProcessor

from router.host.watch.step import Rows, open_step, validate
from router.host.watch.table import Ticket


class WatchProcessor(LogitsProcessor):  # type: ignore[misc]
    """Requests are known by vLLM's slot of them, which is given to others later."""

    def __init__(self, vllm_config: Any, req_states: Any) -> None:
        self._states = req_states
        self._step = open_step()
        self._slots = np.full(req_states.max_num_reqs, -1, np.int32)
        self._generations = np.zeros(req_states.max_num_reqs, np.float32)

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        validate(sampling_params.extra_args)

    def add_request(self, req_idx: int, sampling_params: Any) -> bool:
        ticket: Ticket | None = self._step.ticket(sampling_params.extra_args)
        self._slots[req_idx] = -1
        if ticket is None:
            return False
        self._slots[req_idx], self._generations[req_idx] = ticket
        self._step.began(ticket)
        return True

    def apply(self, logits: Any, ctx: Any) -> Any:
        indices = ctx.idx_mapping_np
        watched = np.flatnonzero(self._slots[indices] >= 0).astype(np.int32)
        if not len(watched) or logits.shape[0] != len(indices):  # several rows a request: tokens are only proposed
            return logits
        requests = indices[watched]
        # Tokens that the sampled one follows; fewer than were to be read: the prompt is not read to its end.
        length = ctx.seq_lens_upper_bound_np[watched]
        made = np.where(
            length >= self._states.prefill_len.np[requests], length - self._states.prompt_len.np[requests], -1
        ).astype(np.float32)
        self._step.watch(logits, Rows(watched, self._slots[requests], self._generations[requests]), made)
        return logits
