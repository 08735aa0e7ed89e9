"""Texts of a large body, put back into what was read of it without them."""

import re
from collections.abc import Callable, Sequence

from router.native.large_body import TakenTexts
from router.types import Turn


def with_texts(turns: Sequence[Turn], texts: TakenTexts) -> tuple[Turn, ...]:
    whole = with_its_texts(texts)
    return tuple([Turn(whole(turn.role), whole(turn.text)) for turn in turns])


def with_its_texts(texts: TakenTexts) -> Callable[[str], str]:
    """A function that gives a text as the body has it."""
    mark, runs = texts.mark, re.compile(f"<{texts.mark}:([0-9]+)>")

    def whole(text: str) -> str:
        if mark not in text:
            return text
        begin, *found = runs.split(text)
        pieces = [begin]
        for run, rest in zip(map(int, found[::2]), found[1::2], strict=True):
            pieces.append(texts.text(run))
            pieces.append(rest[texts.count(run) - 1 :])  # joined like them, empty ones stand for the run's others
        return pieces[1] if pieces[::2] == ["", ""] else "".join(pieces)

    return whole
