"""Who shows how far a run is; the command's bars are one."""

from typing import Protocol


class Progress(Protocol):
    def stage(self, name: str, steps: int) -> None:
        """What follows, and of how many steps."""
        ...

    def step(self) -> None: ...
