"""The texts that the static embedding is fitted to, and those that are held out. Knows no model."""

import hashlib
from collections.abc import Iterable, Sequence

from router.learn.data.outcomes import Outcomes, Prompt

HELD_OUT = 26  #: of 256 groups of prompts: a tenth is never fitted to


def is_held_out(prompt: Prompt) -> bool:
    """By its group, so that no wording of a held-out question is fitted to."""
    return hashlib.sha1(prompt.group.encode(), usedforsecurity=False).digest()[0] < HELD_OUT


def chosen(tables: Iterable[Outcomes], most: int) -> tuple[Prompt, ...]:
    """Prompts of all tables that are not held out, each text once, at most `most`, in the order of their ids (which are
    hashes, so any first part is a fair sample)."""
    found = {prompt.id: prompt for table in tables for prompt in table.prompts if not is_held_out(prompt)}
    return tuple(found[id] for id in sorted(found)[:most])


def held_out(tables: Iterable[Outcomes], most: int) -> tuple[Prompt, ...]:
    """As `chosen`, of those that are held out."""
    found = {prompt.id: prompt for table in tables for prompt in table.prompts if is_held_out(prompt)}
    return tuple(found[id] for id in sorted(found)[:most])


def texts(prompts: Sequence[Prompt]) -> list[str]:
    return [prompt.text for prompt in prompts]
