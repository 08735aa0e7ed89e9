"""The watch on a GPU: one kernel a step over copies of the table's arrays, and an asynchronous copy of the states back
into the table. It is queued before the step's tokens are read, so whoever has the tokens has the states.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from router.host.watch.table import WatchTable


class DeviceWatch:
    """Of one worker and one device. The table's memory is pinned, so that copies need not wait."""

    def __init__(self, table: WatchTable, device: Any) -> None:
        from router.kernels.watch import watch

        self._kernel = watch
        self._table = table
        self._arrays = {
            name: torch.from_numpy(getattr(table, name))
            for name in ("orders", "states", "weights", "kept", "first_ids", "places")
        }
        if device.type == "cuda":
            for array in self._arrays.values():
                _pin(array)
        self._copies = {name: array.to(device) for name, array in self._arrays.items()}
        self._device = device
        self._used = 0  # slots below this were

    def began(self, slot: int) -> None:
        """The orders of a request that comes into the batch."""
        for name in ("orders", "weights"):
            self._copies[name][slot].copy_(self._arrays[name][slot], non_blocking=True)

    def watch(
        self,
        logits: Any,
        rows: npt.NDArray[np.int32],
        slots: npt.NDArray[np.int32],
        generations: npt.NDArray[np.float32],
        made: npt.NDArray[np.float32],
    ) -> None:
        """As `Watcher.watch`; nothing is waited for."""
        table, used = self._table, self._used
        self._used = used = max(used, int(slots.max()) + 1)
        numbers = np.stack([rows, slots, generations.astype(np.int32), made.astype(np.int32)])
        step = torch.from_numpy(numbers)
        if self._device.type == "cuda":
            step = step.pin_memory()
        self._kernel(
            logits, step.to(self._device, non_blocking=True), **self._copies, stop=table.stop, hidden=table.hidden
        )
        self._arrays["states"][:used].copy_(self._copies["states"][:used], non_blocking=True)
        if (made == 0).any():
            for slot in slots[made == 0]:
                self._arrays["kept"][slot].copy_(self._copies["kept"][slot], non_blocking=True)


def _pin(array: torch.Tensor) -> None:
    cuda: Any = torch.cuda
    status = cuda.cudart().cudaHostRegister(array.data_ptr(), array.numel() * array.element_size(), 0)
    if int(status):
        raise RuntimeError(f"the watch's table could not be pinned: CUDA error {int(status)}")
