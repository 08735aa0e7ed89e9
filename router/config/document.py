"""Parses YAML to plain objects, restricted to what JSON can express and to bounds far above any real config.

Refused with line and column: a repeated key or one that is no text, an alias within what it names, aliases that expand
to a huge text ("billion laughs"), too deep or too long documents, tags.
"""

import re
from collections.abc import Hashable
from typing import Any, cast

import yaml

#: A config of a thousand members has 0.3 MiB; PyYAML reads about 0.2 MiB a second.
MOST_BYTES = 1 << 20
MOST_NODES = 200_000  #: aliases followed
DEEPEST = 64
_YAML = "tag:yaml.org,2002:"
_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")
_TAGS = ("null", "bool", "int", "float", "str", "seq", "map", "merge")


class Refused(Exception):
    """A text that is no YAML, or more than a config may hold. `str(error)` says where and what."""


def read(text: str) -> Any:
    """The objects of one YAML document. Raises `Refused`."""
    if len(text) > MOST_BYTES:
        raise Refused(f"longer than {MOST_BYTES} characters")
    try:
        _measure(text)
        return yaml.load(text, _Loader)
    except yaml.MarkedYAMLError as error:
        raise Refused(_told(error)) from error
    except (yaml.YAMLError, ValueError) as error:  # a number of 5,000 digits
        raise Refused(" ".join(str(error).split())[:200]) from error


class _Loader(yaml.SafeLoader):
    """YAML's plain types only."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == f"{_YAML}merge":
                continue
            if key.tag == f"{_YAML}int" and _NUMBER.fullmatch(key.value):  # `devices: {0: ...}`
                key.tag = f"{_YAML}str"
            if key.tag != f"{_YAML}str":
                shown = f": {key.value!r}" if isinstance(key, yaml.ScalarNode) else ""
                raise yaml.MarkedYAMLError(None, None, f"a key must be text{shown}; quote it", key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(None, None, f"the key {key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_YAML) in _TAGS
}
#: 2024-01-01 is text: nothing here is a date. Neither is 8:00 the number 480, nor 010 the number 8.
_Loader.yaml_implicit_resolvers = {
    first: [(tag, form) for tag, form in forms if tag.removeprefix(_YAML) in _TAGS and tag != f"{_YAML}int"]
    for first, forms in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F]+)$")
_Loader.add_implicit_resolver(f"{_YAML}int", _INTEGER, list("-+0123456789"))


def _measure(text: str) -> None:
    """Raises `MarkedYAMLError` where the document is too deep, or too long once its aliases are followed."""
    sizes: dict[str, int] = {}  # of what an anchor names
    open: list[tuple[str | None, int]] = []  # anchor, and the nodes before it
    nodes = 0
    for event in yaml.parse(text, _Loader):
        if isinstance(event, yaml.AliasEvent):
            if any(anchor == event.anchor for anchor, _ in open):
                raise _at(event, f"*{event.anchor} stands within itself")
            nodes += sizes.get(event.anchor or "", 1)
        elif isinstance(event, yaml.CollectionStartEvent):
            open.append((event.anchor, nodes))
            nodes += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open.pop()
            if anchor is not None:
                sizes[anchor] = nodes - before
        elif isinstance(event, yaml.ScalarEvent):
            nodes += 1
        if len(open) > DEEPEST:
            raise _at(event, f"more than {DEEPEST} deep")
        if nodes > MOST_NODES:
            raise _at(event, f"more than {MOST_NODES} values, aliases followed")


def _at(event: yaml.Event, problem: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(None, None, problem, cast("yaml.Mark | None", event.start_mark))


def _told(error: yaml.MarkedYAMLError) -> str:
    """PyYAML's several lines as one."""
    mark = error.problem_mark or error.context_mark
    where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
    context = f", {error.context}" if error.context else ""
    return f"{where}{error.problem or 'not understood'}{context}"
