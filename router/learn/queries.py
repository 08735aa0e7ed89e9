"""Prompts to choose an operating point on: outcomes tables, requests or prompts as JSON lines, plain text.

Labels are not needed and not read. Refuses broken lines by file and line. Knows no router.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from router.errors import BadRequest, ConfigError
from router.learn import outcomes
from router.pipeline.conversation import query_of
from router.types import Query

_LINES = (".jsonl", ".ndjson", ".json")


def read(path: str | Path) -> tuple[Query, ...]:
    """All prompts of a file, as requests for `auto`.

    `.parquet`: an outcomes table. `.jsonl`: an outcomes table, or an object a line with `prompt`, or with `messages`
    as in OpenAI's chat API, whose `max_tokens`, `n` and `tools` then count. Any other suffix: a prompt a line. Raises
    ConfigError naming the file, the line and what was expected.
    """
    path = Path(path)
    if path.suffix == ".parquet":
        found = _table(path)
    elif path.suffix in _LINES:
        found = tuple(_queries(path))
    else:
        found = tuple(query_of(line, model="auto") for _, line in _lines(path))
    if not found:
        raise ConfigError(f"{path}: expected at least one prompt, got none")
    return found


def _table(path: Path) -> tuple[Query, ...]:
    return tuple(query_of(prompt.text, model="auto") for prompt in outcomes.read(path).prompts)


def _queries(path: Path) -> Iterator[Query]:
    for number, line in _lines(path):
        where = f"{path}:{number}"
        try:
            value = msgspec.json.decode(line)
        except msgspec.DecodeError as error:
            raise ConfigError(f"{where}: expected a JSON object, got broken JSON: {error}") from error
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: expected a JSON object, got {type(value).__name__}")
        if {"prompt", "model", "score"} <= value.keys():
            yield from _table(path)
            return
        yield _query(where, value)


def _query(where: str, body: Mapping[str, Any]) -> Query:
    what = body.get("messages", body.get("prompt"))
    if not isinstance(what, str | list):
        raise ConfigError(
            f"{where}: expected `prompt` (text) or `messages` (a list), got {', '.join(body) or 'nothing'}"
        )
    limit, choices = body.get("max_completion_tokens", body.get("max_tokens")), body.get("n", 1)
    for name, number in (("max_tokens", limit), ("n", choices)):
        if number is not None and (not isinstance(number, int) or number < 1):
            raise ConfigError(f"{where}: {name}: expected a whole number above 0, got {number!r}")
    try:
        return query_of(what, model="auto", max_tokens=limit, choices=choices or 1, parameters=body)
    except BadRequest as error:
        raise ConfigError(f"{where}: {error.param}: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Those that are not blank, with their numbers."""
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, line.decode().rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}:{number}: expected UTF-8: {error}") from error
