"""The known name nearest to a mistyped one."""

import difflib
from collections.abc import Sequence


def hint(name: str, known: Sequence[str]) -> str:
    """What an error may end with; empty where nothing comes near."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    return f"; did you mean {near[0]!r}?" if near else ""
