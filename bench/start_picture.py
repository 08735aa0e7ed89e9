"""Draws what a terminal shows while `headgate serve examples/pair/headgate.yaml` starts, from a real start.

`python bench/start_picture.py docs/images/start.svg`: the table of places, the bars as they stood when the slower
engine was past half of its start, and what is printed once both are ready.
"""

import asyncio
import io
import re
import sys
from pathlib import Path

import msgspec
import report
from rich.console import Console, RenderableType
from rich.text import Text

from router import Router
from router import config as configuration
from router.cli.places import places_of, places_text
from router.cli.progress import StartBars, ready_of, ready_text
from router.pool.supervisor import StartEvent

CONFIG = "examples/pair/headgate.yaml"
_WIDTH = 118
_HALF = 50  #: per cent


class Watched(StartBars):
    """Bars that are kept as they stood once every engine was past half, and the lines that were printed below."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: RenderableType | None = None
        self.lines: list[str] = []
        self._percent: dict[str, int] = {}

    def engine(self, event: StartEvent) -> None:
        super().engine(event)
        if event.what == "ready":
            self.lines.append(f"headgate: {event.member!r} is ready after {event.seconds:.1f} s")
        self._percent[event.member] = event.start.percent if event.start is not None else 0
        if self.kept is None and self._bars is not None and min(self._percent.values()) >= _HALF:
            drawn = Console(width=_WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
            drawn.print(self._bars.get_renderable())
            self.kept = Text.from_ansi(drawn.file.getvalue().rstrip())  # type: ignore[attr-defined]


async def draw(path: Path) -> None:
    config = configuration.load(report.ROOT / CONFIG)
    ports = {"port": config.server.port, "admin_port": config.server.admin_port}
    config = msgspec.structs.replace(config, server=configuration.Server(port=0, admin_port=0))
    bars = Watched()
    router = Router(config, on_event=bars.engine)
    places = places_of(router.config, router.machine.devices)
    try:
        await router.start()
        ready = ready_text(ready_of(router.config, router.placements, {}, places, **ports))
    finally:
        bars.close()
        await router.stop()
    console = Console(record=True, width=_WIDTH, file=io.StringIO(), force_terminal=True)
    console.print(Text(f"$ headgate serve {CONFIG}\nheadgate: the members live here:\n{places_text(places)}"))
    console.print(bars.kept or Text("(the engines were never past half at one time)"))
    console.print(Text("\n".join(bars.lines)))
    console.print(Text(ready.replace(f"{report.ROOT}/", "")))
    path.write_text(with_own_fonts(console.export_svg(title="headgate serve")), encoding="utf-8")


def with_own_fonts(svg: str) -> str:
    """Without those of a foreign host: the reader's own monospaced one does."""
    return re.sub(r"\s*@font-face \{[^}]*\}", "", svg)


if __name__ == "__main__":
    asyncio.run(draw(Path(sys.argv[1])))
