"""Prompts to choose an operating point on: tables of prompts, requests or outcomes, or plain text.

Labels are not needed and not read. Refuses broken rows by file and line. Knows no router.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from router.errors import BadRequest, ConfigError
from router.learn import records
from router.pipeline.conversation import query_of
from router.types import Query

_TEXT = ("", ".txt", ".text", ".md", ".prompts")
_OUTCOME = {"model", "score"}


def read(path: str | Path) -> tuple[Query, ...]:
    """All prompts of a file, as requests for `auto`.

    A table (`.parquet`, `.csv`, `.jsonl`, `.json`) has in each row a `prompt`, or `messages` as in OpenAI's chat API;
    `max_tokens`, `n`, `tools` and `response_format` count as they do in a request. In a table of outcomes, which has a
    row a model, each prompt counts once. A text file has a prompt a line. Raises ConfigError naming the file, the line
    and what was expected.
    """
    path = Path(path)
    found = tuple(_lines(path) if path.suffix in _TEXT else _rows(path))
    if not found:
        raise ConfigError(f"{path}: expected at least one prompt, got none")
    return found


def _lines(path: Path) -> Iterator[Query]:
    for number, line in records.lines(path):
        if line.strip():
            try:
                yield query_of(line.decode().rstrip("\r\n"), model="auto")
            except UnicodeDecodeError as error:
                raise ConfigError(f"{path}:{number}: expected UTF-8: {error}") from error


def _rows(path: Path) -> Iterator[Query]:
    met: set[str] = set()
    for record in records.read(path):
        if record.broken:
            raise ConfigError(f"{record.where}: {record.broken}")
        prompt = record.values.get("prompt")
        if isinstance(prompt, str) and record.values.keys() >= _OUTCOME:
            if prompt in met:
                continue
            met.add(prompt)
        yield _query(record.where, record.values)


def _query(where: str, body: Mapping[str, Any]) -> Query:
    what = body.get("messages")
    what = body.get("prompt") if what is None else what
    if not isinstance(what, str | list):
        raise ConfigError(
            f"{where}: expected `prompt` (text) or `messages` (a list), got {', '.join(body) or 'nothing'}"
        )
    limit = _count(where, body, "max_completion_tokens") or _count(where, body, "max_tokens")
    choices = _count(where, body, "n") or 1
    try:
        return query_of(what, model="auto", max_tokens=limit, choices=choices, parameters=body)
    except BadRequest as error:
        raise ConfigError(f"{where}: {error.param}: {error}") from error


def _count(where: str, body: Mapping[str, Any], name: str) -> int | None:
    number = body.get(name)
    if number is not None and (not isinstance(number, int) or number < 1):
        raise ConfigError(f"{where}: {name}: expected a whole number above 0, got {number!r}")
    return number
