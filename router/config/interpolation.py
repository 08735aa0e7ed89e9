"""`${NAME}` in a text of the config, as the shell and compose mean it, and nothing else that looks alike.

    ${NAME}                     its value; refused where it is not set
    ${NAME:-word}  ${NAME-word}     word where NAME is not set; with the colon, where it is empty too
    ${NAME:+word}  ${NAME+word}     word where NAME is set, else nothing; with the colon, only where it is not empty
    ${NAME:?word}  ${NAME?word}     refused with word where NAME is not set; with the colon, where it is empty too
    $$                          one dollar

A word may hold references; only a word that is used is looked up. What a variable holds is never expanded again.
Knows neither YAML nor what a text is for.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

#: References within references. The shell has no bound; a config needs two or three.
DEEPEST = 16
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_OPERATOR = re.compile(r":?[-+?]")
_STOP = re.compile(r"\$\$|\$\{|\$|\}")


class Refused(Exception):
    """A text that is not understood, or a variable that is not there. `str(error)` says which."""


class Reference(NamedTuple):
    """`${name operator word}`."""

    name: str
    operator: str
    word: "Parts"


#: Literal texts, with `$$` as it stands, and references.
Parts = tuple["str | Reference", ...]


def parse(text: str, *, lone_dollars: bool = False) -> Parts:
    """The literals and references of `text`. Raises `Refused`; a dollar that begins nothing is a literal only with
    `lone_dollars`."""
    parts, end = _parts(text, 0, 0, lone_dollars)
    assert end == len(text)
    return parts


def expand(parts: Parts, env: Mapping[str, str], on_read: Callable[[str], None] = lambda name: None) -> str:
    """The text that `parts` stand for. `on_read` gets the name of every variable that is used. Raises `Refused`."""
    return "".join(part.replace("$$", "$") if isinstance(part, str) else _value(part, env, on_read) for part in parts)


def literals(parts: Parts) -> list[str]:
    """The texts of `parts` that stand in the config itself, those of words included."""
    found: list[str] = []
    for part in parts:
        found += [part] if isinstance(part, str) else literals(part.word)
    return found


def names(parts: Parts) -> list[str]:
    """Every variable that `parts` may read."""
    found: list[str] = []
    for part in parts:
        if isinstance(part, Reference):
            found += [part.name, *names(part.word)]
    return found


def _parts(text: str, at: int, depth: int, lone_dollars: bool) -> tuple[Parts, int]:
    """What stands from `at` to the end of `text` or, within a reference, to its `}`; and where that is."""
    found: list[str | Reference] = []
    literal = at
    while (stop := _STOP.search(text, at)) is not None:
        token, at = stop[0], stop.end()
        if token == "${":
            found.append(text[literal : stop.start()])
            reference, at = _reference(text, at, depth, lone_dollars)
            found.append(reference)
            literal = at
        elif token == "}" and depth:
            found.append(text[literal : stop.start()])
            return tuple(part for part in found if part != ""), stop.start()
        elif token == "$" and not lone_dollars:
            raise Refused(f"{_place(stop.start())}: a variable is written ${{NAME}}, and a dollar itself $$")
    if depth:
        raise Refused("a reference ${...} has no end: expected }")
    found.append(text[literal:])
    return tuple(part for part in found if part != ""), len(text)


def _reference(text: str, at: int, depth: int, lone_dollars: bool) -> tuple[Reference, int]:
    """The reference whose `${` ends at `at`, and the place behind its `}`."""
    if depth == DEEPEST:
        raise Refused(f"references stand within one another more than {DEEPEST} deep")
    name = _NAME.match(text, at)
    if name is None:
        raise Refused(f"{_place(at - 2)}: expected the name of a variable right after ${{")
    at = name.end()
    operator = _OPERATOR.match(text, at)
    if operator is None:
        if text[at : at + 1] != "}":
            raise Refused(f"{_place(name.start() - 2)}: expected }} or one of :- - :+ + :? ? after the name")
        return Reference(name[0], "", ()), at + 1
    word, end = _parts(text, operator.end(), depth + 1, lone_dollars)
    return Reference(name[0], operator[0], word), end + 1


def _value(reference: Reference, env: Mapping[str, str], on_read: Callable[[str], None]) -> str:
    name, operator, word = reference
    value = env.get(name)
    there = value is not None and (value != "" or not operator.startswith(":"))
    if operator.endswith("+"):
        return expand(word, env, on_read) if there else ""
    if there and value is not None:
        on_read(name)
        return value
    if operator.endswith("-"):
        return expand(word, env, on_read)
    state = "is not set" if value is None else "is empty"
    why = f": {said}" if (said := expand(word, env, on_read)) else ""
    raise Refused(f"environment variable {name!r} {state}{why}")


def _place(at: int) -> str:
    """Where in the text; a piece of it might be a secret's."""
    return f"at character {at + 1}"
