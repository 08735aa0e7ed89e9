"""The table that an engine host shares with its engine's workers: a file in the host's private folder, mapped by both.

    header | orders [slots, 32] | states [slots, 2, 16] | weights, kept [slots, firsts] | first ids | places

The host writes orders, weights and the vocabulary's facts, a worker writes states and kept; csrc/watch.hpp says what
the numbers are. A token costs no byte between the processes. Knows neither vLLM nor requests.
"""

import contextlib
import mmap
import os
import secrets
import sys
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from router.native.row_statistics import ORDER_FLOATS, STATE_FLOATS

#: Where a worker finds the table's path.
VARIABLE = "HEADGATE_WATCH"
#: Of `SamplingParams.extra_args`: `[seal, slot, generation]`.
KEY = "headgate_watch"
#: Answers that can be watched at once; others are not.
SLOTS = 1024
#: Logits of the first token that are kept or weighed, fewer where the vocabulary has fewer.
FIRSTS = 512

_FORMAT = 1
_HEADER_BYTES = 4096
_SEAL_AT, _SEAL_BYTES = 64, 32
_READY, _FORMAT_AT, _SLOTS, _VOCABULARY, _FIRSTS, _STOP, _HIDDEN = range(7)


class Ticket(NamedTuple):
    """What a request in the engine knows of its watch. A slot is given to others, with another generation."""

    slot: int
    generation: float


class WatchTable:
    """One engine's table. `create` is for the host, `open` for a worker."""

    def __init__(self, path: str, memory: mmap.mmap, *, owned: bool) -> None:
        self.path = path
        self._owned = owned
        self._header = np.frombuffer(memory, np.int32, 8)
        self.seal = bytes(memory[_SEAL_AT : _SEAL_AT + _SEAL_BYTES]).decode()
        slots, vocabulary, firsts = (int(self._header[at]) for at in (_SLOTS, _VOCABULARY, _FIRSTS))
        self.slots, self.vocabulary, self.firsts = slots, vocabulary, firsts
        arrays = _arrays(memory, slots, vocabulary, firsts)
        self.orders: npt.NDArray[np.float32] = arrays["orders"]
        self.states: npt.NDArray[np.float32] = arrays["states"]
        self.weights: npt.NDArray[np.float32] = arrays["weights"]
        self.kept: npt.NDArray[np.float32] = arrays["kept"]
        self.first_ids: npt.NDArray[np.int32] = arrays["first_ids"]
        self.places: npt.NDArray[np.uint8] = arrays["places"]

    @classmethod
    def create(cls, path: str, vocabulary: int, *, slots: int = SLOTS, firsts: int = FIRSTS) -> "WatchTable":
        """A new file, for this user only. Raises `OSError`."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        firsts = min(firsts, vocabulary)
        size = sum(_sizes(slots, vocabulary, firsts).values()) + _HEADER_BYTES
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.ftruncate(descriptor, size)
            memory = mmap.mmap(descriptor, size)
        finally:
            os.close(descriptor)
        header = np.frombuffer(memory, np.int32, 8)
        header[[_FORMAT_AT, _SLOTS, _VOCABULARY, _FIRSTS]] = _FORMAT, slots, vocabulary, firsts
        memory[_SEAL_AT : _SEAL_AT + _SEAL_BYTES] = secrets.token_hex(_SEAL_BYTES // 2).encode()
        return cls(path, memory, owned=True)

    @classmethod
    def open(cls, path: str) -> "WatchTable":
        """Raises `OSError`, or `ValueError` on a file that is no table of this release."""
        descriptor = os.open(path, os.O_RDWR)
        try:
            memory = mmap.mmap(descriptor, 0)
        finally:
            os.close(descriptor)
        header = np.frombuffer(memory, np.int32, 8) if len(memory) >= _HEADER_BYTES else np.zeros(8, np.int32)
        sizes = _sizes(int(header[_SLOTS]), int(header[_VOCABULARY]), int(header[_FIRSTS]))
        if header[_FORMAT_AT] != _FORMAT or len(memory) != sum(sizes.values()) + _HEADER_BYTES:
            raise ValueError(f"{path}: expected a table of the watch, format {_FORMAT}, got another file")
        return cls(path, memory, owned=False)

    def describe(
        self, places: npt.NDArray[np.uint8], first_ids: npt.NDArray[np.int32], *, stop: int, hidden: int
    ) -> None:
        """Say what the vocabulary is like; before this no worker watches. `stop`: the token that ends a row; `hidden`:
        one that a watched row never samples, -1 for none. Raises `ValueError`."""
        if places.shape != (self.vocabulary,) or first_ids.shape != (self.firsts,):
            raise ValueError(
                f"expected {self.vocabulary} places and {self.firsts} first ids, got {len(places)} and {len(first_ids)}"
            )
        self.places[:] = places
        self.first_ids[:] = first_ids
        self._header[[_STOP, _HIDDEN]] = stop, hidden
        self._header[_READY] = 1

    @property
    def ready(self) -> bool:
        return bool(self._header[_READY])

    @property
    def stop(self) -> int:
        return int(self._header[_STOP])

    @property
    def hidden(self) -> int:
        return int(self._header[_HIDDEN])

    def ticket(self, extra_args: Mapping[str, Any] | None) -> Ticket | None:
        """Of a request's `extra_args`; None where it is not watched. Raises `ValueError` where it is not ours: a
        client cannot know the seal."""
        if not extra_args or KEY not in extra_args:
            return None
        given = extra_args[KEY]
        if not isinstance(given, list | tuple) or len(given) != 3 or given[0] != self.seal:
            raise ValueError(f"vllm_xargs: {KEY} is reserved")
        slot, generation = int(given[1]), float(given[2])
        if not 0 <= slot < self.slots:
            raise ValueError(f"{KEY}: expected a slot from 0 to {self.slots - 1}, got {slot}")
        return Ticket(slot, generation)

    def extra_args(self, ticket: Ticket) -> dict[str, Any]:
        return {KEY: [self.seal, ticket.slot, ticket.generation]}

    def remove(self) -> None:
        """The file; who has it mapped keeps it."""
        if self._owned:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.path)


def shared(environment: Mapping[str, str] = os.environ) -> WatchTable | None:
    """The table of this process's engine, mapped once; None where it has none, or none that can be read: then nothing
    is watched."""
    path = environment.get(VARIABLE, "")
    if not path:
        return None
    if path not in _opened:
        try:
            _opened[path] = WatchTable.open(path)
        except (OSError, ValueError) as error:
            print(f"headgate: nothing is watched in this engine: {error}", file=sys.stderr)
            _opened[path] = None
    return _opened[path]


_opened: dict[str, WatchTable | None] = {}


def _sizes(slots: int, vocabulary: int, firsts: int) -> dict[str, int]:
    """Bytes of each array, in their order; each starts at a multiple of 64."""
    wanted = {
        "orders": slots * ORDER_FLOATS * 4,
        "states": slots * 2 * STATE_FLOATS * 4,
        "weights": slots * firsts * 4,
        "kept": slots * firsts * 4,
        "first_ids": firsts * 4,
        "places": vocabulary,
    }
    return {name: (size + 63) // 64 * 64 for name, size in wanted.items()}


def _arrays(memory: mmap.mmap, slots: int, vocabulary: int, firsts: int) -> dict[str, npt.NDArray[Any]]:
    shapes: dict[str, tuple[type[np.generic], tuple[int, ...]]] = {
        "orders": (np.float32, (slots, ORDER_FLOATS)),
        "states": (np.float32, (slots, 2, STATE_FLOATS)),
        "weights": (np.float32, (slots, firsts)),
        "kept": (np.float32, (slots, firsts)),
        "first_ids": (np.int32, (firsts,)),
        "places": (np.uint8, (vocabulary,)),
    }
    found, offset = {}, _HEADER_BYTES
    for name, size in _sizes(slots, vocabulary, firsts).items():
        dtype, shape = shapes[name]
        count = int(np.prod(shape))
        found[name] = np.frombuffer(memory, dtype, count, offset).reshape(shape)
        offset += size
    return found
