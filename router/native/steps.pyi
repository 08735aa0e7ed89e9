"""Which steps of requests were native, and why others were not: one count a request and step, or where it left them.

A request that leaves the native steps at one of them is counted once, at that step; it and all after it are in Python.
"""

STEPS: tuple[str, ...]  #: in a request's order
CAUSES: tuple[tuple[str, str], ...]  #: step and why, by the number of a cause; 0 is none
#: Causes that are seen outside native code.
NO_ENGINE: int
PIPELINED: int
SCORING: int
FAILED: int
REFUSED: int
CLIENT_GONE: int
CUT: int

class Steps:
    """The counts of one router's requests. Called from the event loop's thread."""

    def count(self, cause: int) -> None:
        """A request left by `cause`. Raises `ValueError` where there is none such."""

    def rows(self) -> list[tuple[str, str, str, int]]:
        """Step, whether it was native ("true", "false"), why not (empty for native), and how many requests."""
