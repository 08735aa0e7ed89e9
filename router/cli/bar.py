"""How far long work is: what every verb that takes a while shows. Knows no verb."""

import sys
from collections.abc import Callable


class Bar:
    """Progress on standard error: bars on a terminal, a line a stage elsewhere, nothing beside JSON."""

    def __init__(self, *, shown: bool, left: bool = False) -> None:
        """`left`: with the time left, of work whose steps take the same time each."""
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        time = TimeRemainingColumn() if left else TimeElapsedColumn()
        columns = (TextColumn("{task.description}"), BarColumn(), time)
        terminal = sys.stderr.isatty()
        self._plain = shown and not terminal
        self._progress = Progress(*columns, console=Console(stderr=True), disable=not shown or not terminal)
        self._advance: Callable[[], None] = lambda: None

    def __enter__(self) -> "Bar":
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def stage(self, name: str, steps: int) -> None:
        if self._plain:
            print(f"{name} ...", file=sys.stderr, flush=True)
        task = self._progress.add_task(name, total=steps or None)
        self._advance = lambda: self._progress.advance(task)

    def step(self) -> None:
        self._advance()
