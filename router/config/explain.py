"""Rewrites msgspec's errors in the file's terms: the nearest right key, the value found, what is allowed."""

import difflib
import re
from collections.abc import Iterable, Mapping
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from router.config.tree import NOT_IN_FILES, NOT_OF_MEMBERS, SECRET_KEYS, Config, Member

_UNKNOWN = re.compile(r"unknown field `([^`]+)`(?: - at `\$\.?([^`]*)`)?")
_AT = re.compile(r"(.*) - at `\$\.?([^`]*)`", re.DOTALL)
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)")
_MOST_SHOWN = 8


def explain(message: str, tree: Mapping[str, Any]) -> str:
    """msgspec's message about `tree`, which it refused as a Config."""
    if (match := _UNKNOWN.search(message)) is not None:
        return _unknown(match[1], match[2] or "")
    if (match := _AT.fullmatch(message)) is None:
        return message
    said, at = match[1], _named(match[2], tree)
    value, secret = _value(tree, at), not SECRET_KEYS.isdisjoint(_steps(at))
    allowed = _literals(_hint(at))
    if allowed:
        return f"expected {one_of(str(value), map(str, allowed))}, got {shown(value)} - at `$.{at}`"
    said = said.replace("`str | object`", "`str`").replace("`object | str`", "`str`")
    got = "" if secret or isinstance(value, dict | list | None) else f": {shown(value)}"
    quote = "; quote it" if "Expected `str`" in said and isinstance(value, bool | int | float) else ""
    return f"{said} - at `$.{at}`{got}{quote}"


def one_of(wrong: str, right: Iterable[str]) -> str:
    """What is allowed: all of it where that is short, else the nearest or the first few."""
    right = list(right)
    near = difflib.get_close_matches(wrong, right, n=3, cutoff=0.5)
    if len(right) <= _MOST_SHOWN:
        return f"one of {', '.join(right)}" + (f" (did you mean {near[0]!r}?)" if near else "")
    if near:
        return " or ".join(repr(name) for name in near)
    return f"one of {', '.join(right[:_MOST_SHOWN])} and {len(right) - _MOST_SHOWN} more"


def shown(value: object) -> str:
    """A value that was refused, in few characters."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _unknown(wrong: str, at: str) -> str:
    struct = _struct(at)
    fields = [field for field in struct.__struct_fields__ if field not in NOT_IN_FILES | NOT_OF_MEMBERS]
    where = f" - at `$.{at}`" if at else ""
    near = difflib.get_close_matches(wrong, fields, n=1, cutoff=0.7 if struct is Member else 0.5)
    if near:
        return f"unknown key {wrong!r}{where}; did you mean {near[0]!r}?"
    if struct is Member:
        return f"unknown key {wrong!r}{where}; an argument of vLLM stands under `engine_args`"
    beside = "; an argument of vLLM stands under `engine_args` of a member" if struct is Config else ""
    return f"unknown key {wrong!r}{where}; expected {one_of(wrong, fields)}{beside}"


def _named(at: str, tree: Any) -> str:
    """msgspec writes [...] for a key of a mapping of texts: which it is."""
    before, found, within = at.partition("[...]")
    values = _value(tree, before) if found else None
    if within:  # a key of one of several structs: which is not told
        return f"{before}.{next(iter(values))}{within}" if isinstance(values, dict) and len(values) == 1 else at
    wrong = [key for key, value in values.items() if not isinstance(value, str)] if isinstance(values, dict) else []
    return f"{before}.{wrong[0]}" if wrong else at


def _steps(at: str) -> list[str]:
    return [index or key for index, key in _STEP.findall(at)]


def _value(tree: Any, at: str) -> Any:
    """What stands at a path of msgspec's."""
    for step in _steps(at):
        if isinstance(tree, dict):
            tree = tree.get(step)
        elif isinstance(tree, list | tuple) and step.isdigit() and int(step) < len(tree):
            tree = tree[int(step)]
        else:
            return None
    return tree


def _hint(at: str) -> Any:
    """The type of what stands at a path."""
    hint: Any = Config
    for step in _steps(at):
        if (struct := _struct_of(hint)) is not None:
            hint = get_type_hints(struct).get(step)
        else:
            hint = next((part for part in _parts(hint) if part is not type(None)), None)
    return hint


def _struct(at: str) -> type[msgspec.Struct]:
    return _struct_of(_hint(at)) or Config


def _struct_of(hint: Any) -> type[msgspec.Struct] | None:
    """A struct, or that which may stand in the place of a text."""
    either = (hint, *(get_args(hint) if get_origin(hint) in (Union, UnionType) else ()))
    return next((part for part in either if isinstance(part, type) and issubclass(part, msgspec.Struct)), None)


def _literals(hint: Any) -> tuple[str, ...]:
    """The texts that a value may be, alone or beside other types."""
    either = next((part for part in (hint, *get_args(hint)) if get_origin(part) is Literal), None)
    return get_args(either)


def _parts(hint: Any) -> tuple[Any, ...]:
    """The item types of a sequence, through an optional."""
    options = [part for part in get_args(hint) if part is not type(None) and part is not Ellipsis]
    if get_origin(hint) is tuple:
        return tuple(options)
    if get_origin(hint) is dict:
        return tuple(options[1:])
    return tuple(inner for option in options for inner in get_args(option) if inner is not Ellipsis)
