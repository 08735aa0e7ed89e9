"""Reads prompts to choose an operating point on, from tables of prompts, requests or outcomes, or from plain text.

Labels are not needed and not read. Refuses broken rows by file and line. Knows no router.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from router.errors import BadRequest, ConfigError
from router.learn.data import records
from router.learn.data.importers.lists import listed
from router.pipeline.conversation import query_of
from router.types import Query

_TEXT = ("", ".txt", ".text", ".md", ".prompts")
_OUTCOME = {"model", "score"}
MOST = 2**31 - 1  #: of a count
#: What a request has of these, and as what.
_JSON: dict[str, type | tuple[type, ...]] = {
    "messages": list, "tools": list, "functions": list, "response_format": dict, "structured_outputs": dict,
    "logprobs": (bool, int, float),
}  # fmt: skip
_WORDS = {"": None, "null": None, "none": None, "true": True, "false": False}


def read(path: str | Path) -> tuple[Query, ...]:
    """All prompts of a file, as requests for `auto`.

    A table (`.parquet`, `.csv`, `.jsonl`, `.json`) has in each row a `prompt`, or `messages` as in OpenAI's chat API;
    `max_tokens`, `n`, `tools` and `response_format` count as they do in a request; a cell of text may hold them as
    JSON, and an empty one means none. In a table of outcomes, which has a row a model, each prompt counts once. A text
    file has a prompt a line. Raises ConfigError naming the file, the line and what was expected.
    """
    path = Path(path)
    found = tuple(_lines(path) if path.suffix in _TEXT else _rows(path))
    if not found:
        raise ConfigError(f"{path}: expected at least one prompt, got none")
    return found


def _lines(path: Path) -> Iterator[Query]:
    records.check_file(path)
    for number, line in records.lines(path):
        if b"\0" in line:
            raise ConfigError(f"{path}:{number}: expected UTF-8 text, got a NUL byte: is it UTF-16?")
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
    told = {key: _parsed(where, key, body[key]) for key in _JSON if key in body}
    if told.get("logprobs") is not None:
        told["logprobs"] = bool(
            told["logprobs"]
        )  # of completions it is a number; here it counts whether they are wanted
    what = told.get("messages")
    what = body.get("prompt") if what is None else what
    if not isinstance(what, str | list):
        raise ConfigError(f"{where}: expected `prompt` (text) or `messages` (a list), got {_names(body)}")
    limit = _count(where, body, "max_completion_tokens") or _count(where, body, "max_tokens")
    choices = _count(where, body, "n") or 1
    _check_contents(where, what)
    try:
        return query_of(what, model="auto", max_tokens=limit, choices=choices, parameters={**body, **told})
    except BadRequest as error:
        raise ConfigError(f"{where}: {error.param}: {error}") from error


def _names(body: Mapping[str, Any]) -> str:
    return ", ".join(name[: records.SHOWN] for name in list(body)[:12]) or "nothing"


def _check_contents(where: str, messages: str | list[Any]) -> None:
    for i, message in enumerate(() if isinstance(messages, str) else messages):
        content = message.get("content") if isinstance(message, dict) else None
        parts = content if isinstance(content, list) else []
        if not isinstance(content, str | list | None) or not all(isinstance(part, str | dict) for part in parts):
            raise ConfigError(
                f"{where}: messages[{i}].content: expected text or a list of parts, got {records.shown(content)}"
            )


def _parsed(where: str, key: str, value: object) -> object:
    """What a table holds as JSON text, or as Python writes it, is what it says; an empty cell, and the NaN of some
    writers, is none."""
    found = value
    if isinstance(value, str):
        found = _read(value, key)
    if found is None or found != found:
        return None
    if not isinstance(found, _JSON[key]):
        wanted = "a list" if _JSON[key] is list else "an object" if _JSON[key] is dict else "true, false or a number"
        raise ConfigError(f"{where}: {key}: expected {wanted}, or that as JSON; got {records.shown(value)}")
    return found


def _read(text: str, key: str) -> object:
    """The value of a text; the text itself where it says none."""
    if text.strip().lower() in _WORDS:
        return _WORDS[text.strip().lower()]
    try:
        if _JSON[key] is dict:
            read = listed(f"[{text}]", key)
            return read[0] if isinstance(read, list) and len(read) == 1 else text
        return listed(text, key) if _JSON[key] is list else float(text)
    except ValueError:
        return text


def _count(where: str, body: Mapping[str, Any], name: str) -> int | None:
    """A whole number. CSVs hold it as text, and pandas makes a float of it where a row above or below has none."""
    value = body.get(name)
    number: object = value
    if isinstance(value, str):
        try:
            number = float(value) if value.strip() else None
        except ValueError:
            number = 0
    if number is None or number != number:
        return None
    whole = isinstance(number, int | float) and not isinstance(number, bool) and 1 <= number <= MOST
    if not whole or number != int(number):  # type: ignore[call-overload]
        raise ConfigError(f"{where}: {name}: expected a whole number from 1 to {MOST}, got {records.shown(value)}")
    return int(number)  # type: ignore[call-overload, no-any-return]
