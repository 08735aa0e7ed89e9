"""Whose turn it is to load an engine. All hosts start side by side and read their arguments; engines load side by side
where none of them measures what another takes.

vLLM sizes the KV cache by the memory that is free on its devices as it starts, unless `kv_cache_memory_bytes` says it.
So an engine that measures has its devices for itself while it loads, and those that are sized may load together.
"""

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import msgspec

from router.config import Member, argument_name, device_names
from router.errors import ArgumentsRefused

log = logging.getLogger("headgate.pool")
#: Awaited before the engine loads; once its arguments are read.
Load = Callable[[], Awaitable[None]]
#: Entered before a host starts, left when its engine is ready or has failed.
Turn = Callable[[], AbstractAsyncContextManager[Load]]


class Loader(msgspec.Struct, frozen=True, eq=False):
    """An engine that wants to load. Each start is another one: an engine that starts anew while the one in its place
    loads has the same name and devices."""

    name: str
    devices: tuple[str, ...]  #: empty: any may be its own
    sized: bool  #: by `kv_cache_memory_bytes`

    def disturbs(self, other: "Loader") -> bool:
        apart = self.devices and other.devices and set(self.devices).isdisjoint(other.devices)
        return not apart and not (self.sized and other.sized)


def loader_of(member: Member) -> Loader:
    """`member`: placed."""
    sized = "kv_cache_memory_bytes" in map(argument_name, member.engine_args)
    return Loader(member.name, device_names(member), sized)


class Turns:
    """Of one pool. `first`: the engines of its first start; none of them loads before the arguments of all are read."""

    def __init__(self, first: Iterable[str] = (), imports: int = 0, patience_s: float = 120.0) -> None:
        """`imports`: hosts that may import vLLM at once; default: the processors, 2 at the least. `patience_s`: so long
        the first engine that could load waits for the arguments of the others."""
        self._unread = set(first)
        self._patience_s = patience_s
        self._impatience: asyncio.TimerHandle | None = None
        self._queue: list[Loader] = []  #: those that load or wait, the longest first
        self._loading: list[Loader] = []
        self._changed = asyncio.Event()
        self._imports = asyncio.Semaphore(imports or max(2, len(os.sched_getaffinity(0))))

    @asynccontextmanager
    async def start(self, loader: Loader) -> AsyncIterator[Load]:
        """One start of an engine."""
        loader = msgspec.structs.replace(loader)
        await self._imports.acquire()
        importing = True

        async def load() -> None:
            nonlocal importing
            importing = False
            self._imports.release()
            await self._load(loader)

        refused = False
        try:
            yield load
        except ArgumentsRefused:
            refused = True  # of a first start: it ends, and the others must not load before it does
            raise
        finally:
            if importing:
                self._imports.release()
            self._ended(loader, refused=refused)

    async def _load(self, loader: Loader) -> None:
        self._unread.discard(loader.name)
        self._queue.append(loader)
        self._tell()
        if self._unread and self._impatience is None:
            self._impatience = asyncio.get_running_loop().call_later(self._patience_s, self._wait_no_longer)
        while not self._is_next(loader):
            await self._changed.wait()
        self._loading.append(loader)

    def _ended(self, loader: Loader, *, refused: bool) -> None:
        if not refused:
            self._unread.discard(loader.name)
        for each in (self._queue, self._loading):
            if loader in each:
                each.remove(loader)
        self._tell()

    def _wait_no_longer(self) -> None:
        log.warning(
            "the other engines load: %s did not come as far as their arguments", ", ".join(sorted(self._unread))
        )
        self._unread.clear()
        self._tell()

    def _is_next(self, loader: Loader) -> bool:
        """Of two that disturb one another the one that waits for longer goes first."""
        earlier = self._queue[: self._queue.index(loader)]
        return not self._unread and not any(loader.disturbs(other) for other in (*self._loading, *earlier))

    def _tell(self) -> None:
        """Wake all that wait; those that come later wait for the next time."""
        if not self._unread and self._impatience is not None:
            self._impatience.cancel()
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()


@asynccontextmanager
async def at_once() -> AsyncIterator[Load]:
    """The turn of an engine that need not heed others."""

    async def load() -> None: ...

    yield load


@asynccontextmanager
async def in_time(turn: Turn, timeout_s: float) -> AsyncIterator[Load]:
    """`turn`, within which the host may take so long to read its arguments, and so long to load its engine: the time
    that others take is not counted. Raises `TimeoutError`."""
    async with turn() as load, asyncio.timeout(timeout_s) as limit:

        async def load_in_time() -> None:
            limit.reschedule(None)
            await load()
            limit.reschedule(asyncio.get_running_loop().time() + timeout_s)

        yield load_in_time
