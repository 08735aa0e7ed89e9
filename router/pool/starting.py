"""Follows an engine's start in its log, and remembers what its stages took."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from router.pool.stages import Stages, StartProgress
from router.pool.timings import Timings

_LOOK_S = 0.25


class Starting:
    """Of one engine, one start after another. `told` hears whenever stage or per cent have changed; what it raises ends
    nothing."""

    def __init__(self, timings: Timings, key: str) -> None:
        self._timings = timings
        self._key = key
        self._stages: Stages | None = None
        self.told: Callable[[StartProgress], None] | None = None

    def progress(self) -> StartProgress | None:
        """None while no start is under way."""
        return None if self._stages is None else self._stages.progress(time.monotonic())

    @asynccontextmanager
    async def followed(self, new_text: Callable[[], str]) -> AsyncIterator[None]:
        """Within it the start is under way; left without an exception it has succeeded. `new_text`: of the log, since
        the last call."""
        begun_s, loop = time.monotonic(), asyncio.get_running_loop()
        earlier = await loop.run_in_executor(None, self._timings.of, self._key)
        stages = self._stages = Stages(begun_s, earlier)
        looking = loop.create_task(self._look(stages, new_text))
        try:
            yield
            now_s = time.monotonic()
            stages.read(new_text(), now_s)
            # Not waited for, as what comes next must be done in this turn of the loop: the engine may be lost any time.
            if took := stages.ended(now_s):
                loop.run_in_executor(None, self._timings.keep, self._key, took)
        finally:
            self._stages = None
            looking.cancel()

    async def _look(self, stages: Stages, new_text: Callable[[], str]) -> None:
        said = stages.progress(time.monotonic())
        while True:
            await asyncio.sleep(_LOOK_S)
            stages.read(new_text(), time.monotonic())
            now = stages.progress(time.monotonic())
            if self.told is not None and (now.stage, now.percent) != (said.stage, said.percent):
                said = now
                with contextlib.suppress(Exception):  # whoever shows it; the start matters more
                    self.told(now)
