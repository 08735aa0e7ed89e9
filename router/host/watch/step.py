"""One step's watched rows, on the CPU natively and on a GPU by a kernel: what both of vLLM's interfaces share.

Whatever goes wrong here must not end the engine: then nothing is watched any more, and it is said once.
"""

import sys
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from router.host.watch.table import Ticket, WatchTable, shared
from router.native.row_statistics import Watcher


class Rows(NamedTuple):
    """Watched rows of a step; of each its row among the logits, its slot and whose that is."""

    rows: npt.NDArray[np.int32]
    slots: npt.NDArray[np.int32]
    generations: npt.NDArray[np.float32]

    @classmethod
    def of(cls, tickets: dict[int, Ticket]) -> "Rows":
        return cls(
            np.array(list(tickets), np.int32),
            np.array([ticket.slot for ticket in tickets.values()], np.int32),
            np.array([ticket.generation for ticket in tickets.values()], np.float32),
        )


class Step:
    """Of one worker. `table` None: nothing is watched."""

    def __init__(self, table: WatchTable | None) -> None:
        self._table = table
        self._native: Watcher | None = None
        self._device: Any = None

    def ticket(self, extra_args: dict[str, Any] | None) -> Ticket | None:
        """Of a request that comes into the batch; one that cannot be read is not watched."""
        if self._table is None:
            return None
        try:
            return self._table.ticket(extra_args)
        except (ValueError, TypeError, OverflowError):
            return None

    def began(self, ticket: Ticket) -> None:
        """Its orders are there: a copy on the device is renewed."""
        if self._device is not None:
            self._guarded(self._device.began, ticket.slot)

    def watch(self, logits: Any, rows: Rows, made: npt.NDArray[np.float32]) -> None:
        """Look at `rows` of `logits`, a tensor float32 [., vocabulary], of whose answers `made` tokens are there, and
        end those that are to stop."""
        self._guarded(self._watch, logits, rows, made)

    def _watch(self, logits: Any, rows: Rows, made: npt.NDArray[np.float32]) -> None:
        table = self._table
        if table is None or not table.ready:
            return
        if logits.device.type == "cpu":
            if self._native is None:
                self._native = _native(table)
            self._native.watch(logits.numpy(), *rows, made)
            return
        if self._device is None:
            from router.host.watch.device import DeviceWatch

            self._device = DeviceWatch(table, logits.device)
        self._device.watch(logits, *rows, made)

    def _guarded(self, call: Any, *given: Any) -> None:
        try:
            call(*given)
        except Exception as error:  # a worker that raises ends the engine, and every answer with it
            self._table = None
            print(f"headgate: nothing is watched any more: {type(error).__name__}: {error}", file=sys.stderr)


def open_step() -> Step:
    return Step(shared())


def validate(extra_args: dict[str, Any] | None) -> None:
    """Of a request at the door. Raises `ValueError` where a client gives what is ours alone."""
    table = shared()
    if table is not None:
        table.ticket(extra_args)


def _native(table: WatchTable) -> Watcher:
    return Watcher(
        table.orders,
        table.states,
        table.weights,
        table.kept,
        table.first_ids,
        table.places,
        stop=table.stop,
        hidden=table.hidden,
    )
