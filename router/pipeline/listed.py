"""Names in the text of a refusal: a pool may have members, and an engine adapters, by the thousand."""

from collections.abc import Collection
from itertools import islice
from typing import Final

#: Names that one refusal lists.
MOST_LISTED: Final = 32


def listed(names: Collection[str], what: str = "more", by: str = ", ") -> str:
    """The first of `names`, and how many others there are."""
    left = len(names) - MOST_LISTED
    shown = by.join(islice(names, MOST_LISTED))
    return f"{shown} and {left} {what}" if left > 0 else shown
