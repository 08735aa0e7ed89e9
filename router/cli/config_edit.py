"""One number of a YAML config, put in place where it stands: comments, order and all other bytes stay as they are.

What comes out is read again before it is written; a file that cannot be edited so is refused, never damaged.
"""

import os
import stat
from pathlib import Path
from typing import Any

import yaml

from router import files
from router.config import document
from router.errors import ConfigError


def put(path: Path, branch: str, key: str, number: float) -> None:
    """Writes `number` at `branch.key`, at once. Raises ConfigError; then the file is as it was."""
    path = path.resolve()
    text = path.read_bytes().decode()
    try:
        new = edited(text, branch, key, number)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    try:
        _replace(path, new)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error


def edited(text: str, branch: str, key: str, number: float) -> str:
    """The YAML text with `number` at `branch.key`. Raises ConfigError."""
    new = _spliced(text, branch, key, shown(number))
    wanted = document.read(text)
    wanted[branch] = {**(wanted.get(branch) or {}), key: number}
    try:
        got = document.read(new)
    except document.Refused:
        got = None
    if got != wanted:
        raise ConfigError(f"cannot be edited safely: set `{key}: {shown(number)}` under `{branch}` by hand")
    return new


def _spliced(text: str, branch: str, key: str, number: str) -> str:
    end = "\r\n" if "\r\n" in text else "\n"
    at = _value(yaml.compose(text, yaml.SafeLoader), branch)
    if not isinstance(at, yaml.MappingNode):
        return f"{text}{'' if text.endswith(end) else end}{end}{branch}:{end}  {key}: {number}{end}"
    value = _value(at, key)
    first = at.start_mark.index
    if value is not None:
        start, stop = value.start_mark.index, value.end_mark.index
        if "${" in text[start:stop]:
            raise ConfigError(f"`{branch}.{key}` is {text[start:stop]}: set that variable to {number} instead")
        space = "" if text[start - 1 : start].isspace() else " "
        return text[:start] + space + number + text[stop:]
    if at.flow_style:
        return f"{text[: first + 1]}{key}: {number}{', ' if at.value else ''}{text[first + 1 :]}"
    return f"{text[:first]}{key}: {number}{end}{' ' * at.start_mark.column}{text[first:]}"


def _value(node: Any, key: str) -> Any:
    """The node at a key of a mapping; None without one."""
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for name, value in reversed(node.value) if name.value == key), None)


def shown(number: float) -> str:
    """As few digits as say it, as YAML reads numbers."""
    if number == int(number) and abs(number) < 1e15:
        return str(int(number))
    return yaml.safe_dump(number).split("\n")[0]


def _replace(path: Path, text: str) -> None:
    with files.replaced(path, stat.S_IMODE(path.stat().st_mode)) as file:
        file.write(text.encode())
        file.flush()
        os.fsync(file.fileno())
