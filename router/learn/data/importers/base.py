"""The protocol of an import format: recognises its files, and converts one record to rows.

Opens no file and knows no format.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import msgspec

from router.learn.data.outcomes import prompt_id, question_group
from router.learn.data.records import Kind, Record


class Broken(ValueError):
    """A record that a format refuses: which key, and what was expected."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A row of an outcomes table."""

    prompt_id: str
    group: str
    task: str
    prompt: str
    model: str
    score: float
    output_tokens: float | None = None
    output_chars: float | None = None
    cost_usd: float | None = None
    response: str | None = None
    split: str | None = None


class Battle(msgspec.Struct, frozen=True, kw_only=True):
    """A row of a battles table."""

    prompt_id: str
    group: str
    task: str
    prompt: str
    model_a: str
    model_b: str
    winner: Literal["a", "b", "tie"]


Row = Outcome | Battle


class Source(msgspec.Struct, frozen=True):
    """A file, and its first record that is not broken."""

    path: Path
    kind: Kind
    values: Mapping[str, Any]


class Options(msgspec.Struct, frozen=True, kw_only=True):
    task: str = ""  #: instead of the one that the source tells
    scores: bool = False  #: battles as plain scores


class Importer(Protocol):
    """One format, on one file. May remember earlier records."""

    def rows(self, record: Record) -> Iterable[Row]:
        """Raises Broken."""
        ...

    def left_out(self) -> Mapping[str, int]:
        """After the last record: what gave no row although nothing in it is broken, by reason."""
        ...


@runtime_checkable
class Rest(Protocol):
    """An importer of rows that only all files together tell."""

    def rest(self) -> Iterable[Row]:
        """After the last record of all files."""
        ...


class Format(Protocol):
    """A module of this folder. It may have `ACROSS_FILES = True`: one importer reads all its files, and is asked for
    the `Rest` of its rows after the last one; and `TORN_LINES = True`: broken lines are left out and counted."""

    ABOUT: str

    def takes(self, source: Source) -> bool:
        """Whether the file is of this format."""
        ...

    def importer(self, source: Source, options: Options) -> Importer: ...


def outcome(prompt: str, model: str, score: float, *, question: str = "", **more: Any) -> Outcome:
    """With the prompt's id, and with its group by the bare `question` (default: the prompt)."""
    group = question_group(question or prompt)
    return Outcome(prompt_id=prompt_id(prompt), group=group, prompt=prompt, model=model, score=score, **more)


def columns_of(values: Mapping[str, Any], needed: Sequence[str]) -> bool:
    """Whether all the needed columns are there."""
    return all(key in values for key in needed)
