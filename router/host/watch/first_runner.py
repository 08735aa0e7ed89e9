"""The watch as a logits processor of vLLM's first model runner (V1).

That runner also asks for rows of an unfinished prompt and does not say which they are: as many tokens of the answer are
there in the next step as in this one, and the table's step is done anew.
"""

from typing import Any

import numpy as np
import torch
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor, MoveDirectionality

from router.host.watch.step import Rows, open_step, validate
from router.host.watch.table import Ticket


class WatchProcessor(LogitsProcessor):  # type: ignore[misc]
    """Rows are known by their index in the batch, which moves; what is known of an answer is in its slot, and outlives
    that the answer is put off and comes back."""

    def __init__(self, vllm_config: Any, device: Any, is_pin_memory: bool) -> None:
        self._step = open_step()
        self._tickets: dict[int, Ticket] = {}
        self._outputs: dict[int, list[int]] = {}
        self._rows: Rows | None = None

    @classmethod
    def validate_params(cls, sampling_params: Any) -> None:
        validate(sampling_params.extra_args)

    def is_argmax_invariant(self) -> bool:
        """Processors that are, are left out for greedy rows."""
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        if not batch_update:
            return
        self._rows = None
        for index in batch_update.removed:
            self._drop(index)
        for index, params, _, output in batch_update.added:
            self._drop(index)
            ticket = self._step.ticket(params.extra_args)
            if ticket is not None:
                self._tickets[index], self._outputs[index] = ticket, output
                self._step.began(ticket)
        for one, other, how in batch_update.moved:
            _move(self._tickets, one, other, swap=how == MoveDirectionality.SWAP)
            _move(self._outputs, one, other, swap=how == MoveDirectionality.SWAP)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        if self._tickets:
            if self._rows is None:
                self._rows = Rows.of(self._tickets)
            outputs = self._outputs
            made = np.fromiter((len(outputs[index]) for index in self._tickets), np.float32, len(self._tickets))
            self._step.watch(logits, self._rows, made)
        return logits

    def _drop(self, index: int) -> None:
        self._tickets.pop(index, None)
        self._outputs.pop(index, None)


def _move(held: dict[int, Any], one: int, other: int, *, swap: bool) -> None:
    there, here = held.pop(other, None), held.pop(one, None)
    if here is not None:
        held[other] = here
    if swap and there is not None:
        held[one] = there
