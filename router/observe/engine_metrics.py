"""The engines' own metrics on our page: asked of all engines at a scrape, within a time limit, and merged.

A family of several engines stands once, its `# HELP` and `# TYPE` once, with the samples of each engine; `member` says
whose they are. Knows no connection to an engine.
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping

log = logging.getLogger("headgate.metrics")

#: An engine that has not answered by then is left out of the page.
ENGINES_S = 2.0
#: Samples that are read in one turn of the loop, in some 4 us each: one family may have as many as a page holds.
_LINES_A_TURN = 256
_LONGEST_LINE = 16_384
_HELP = "# HELP "
_NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
_VALUE = r"[-+]?(?:\d+\.?\d*(?:[eE][-+]?\d+)?|[Ii]nf|NaN|nan)"
_SAMPLE = re.compile(rf'{_NAME}(?:\{{(?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\.)*",?)*\}})? {_VALUE}', re.ASCII)
_TYPES = "counter|gauge|histogram|summary|untyped"
_HEAD = re.compile(rf"({_NAME}) [^\n]*\n# TYPE ({_NAME}) ({_TYPES})\n", re.ASCII)


class Exposition:
    """Families of several pages, in the order in which they first came."""

    def __init__(self) -> None:
        self._types: dict[str, str] = {}
        self._parts: dict[str, list[str]] = {}
        self._lines = 0

    def add(self, block: str) -> Iterator[None]:
        """One family: what follows `# HELP `, up to the next. Yields where other work should be done before it goes on.
        Raises `ValueError` on what would spoil the page; then nothing of it is kept."""
        head = _HEAD.match(block)
        if head is None or head[1] != head[2]:
            raise ValueError(f"expected the name of a family and its type, got {block[:100]!r}")
        name, type = head[1], head[3]
        samples = block[head.end() :].strip("\n")
        for line in samples.split("\n") if samples else ():
            if not line.startswith(name) or len(line) > _LONGEST_LINE or _SAMPLE.fullmatch(line) is None:
                raise ValueError(f"expected a sample of {name}, got {line[:100]!r}")
            self._lines += 1
            if self._lines % _LINES_A_TURN == 0:
                yield
        if self._types.setdefault(name, type) != type:
            raise ValueError(f"{name} is a {type} here and a {self._types[name]} elsewhere")
        parts = self._parts.setdefault(name, [_HELP + head[0].rstrip("\n")])
        if samples:
            parts.append(samples)

    def text(self) -> str:
        lines = [line for parts in self._parts.values() for line in parts]
        return "\n".join([*lines, ""]) if lines else ""


class EngineMetrics:
    """Of the engines that `ask` names, with a question to each that is put when awaited."""

    def __init__(self, ask: Callable[[], Mapping[str, Awaitable[str]]], *, timeout_s: float = ENGINES_S) -> None:
        self._ask = ask
        self._timeout_s = timeout_s
        self.left_out: dict[str, int] = {}  #: scrapes, by member

    async def page(self) -> bytes:
        """All families of all engines that answer in time; the others are counted."""
        tasks = {member: asyncio.ensure_future(answer) for member, answer in self._ask().items()}
        if not tasks:
            return b""
        await asyncio.wait(tasks.values(), timeout=self._timeout_s)
        exposition = Exposition()
        for member, task in tasks.items():
            if not task.done():
                task.cancel()
                self._leave_out(member, f"it did not answer within {self._timeout_s:g} s")
            elif task.cancelled() or (error := task.exception()) is not None:
                self._leave_out(member, "it was lost" if task.cancelled() else str(error))
            else:
                await self._merge(exposition, member, task.result())
        return exposition.text().encode()

    async def _merge(self, exposition: Exposition, member: str, page: str) -> None:
        """A few samples a turn of the loop: answers go on meanwhile."""
        before, *blocks = page.split(_HELP)
        try:
            if before:
                raise ValueError(f"expected a family first, got {before[:100]!r}")
            for block in blocks:
                for _ in exposition.add(block):
                    await asyncio.sleep(0)
        except ValueError as error:
            self._leave_out(member, str(error))

    def _leave_out(self, member: str, why: str) -> None:
        self.left_out[member] = count = self.left_out.get(member, 0) + 1
        if count == 1 or count % 100 == 0:
            log.warning("metrics of engine %r are left out of the page, %d times by now: %s", member, count, why)
