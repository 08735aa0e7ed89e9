"""Converts one cell of a record to the type it must have: text files hold numbers as text, tables as numbers."""

import math
from collections.abc import Mapping
from typing import Any

from router.learn.data.importers.base import Broken
from router.learn.data.outcomes import LARGEST
from router.learn.data.records import shown

_TRUTH = {"true": 1.0, "false": 0.0}


def text(values: Mapping[str, Any], key: str) -> str:
    """A text that must be there, and not blank."""
    value = values.get(key)
    if not isinstance(value, str):
        raise Broken(f"{key}: expected text, got {'none' if value is None else shown(value)}")
    if not value.strip():
        raise Broken(f"{key}: expected text, got an empty one")
    return value


def optional_text(values: Mapping[str, Any], key: str) -> str | None:
    value = values.get(key)
    if value is None or value == "":
        return None
    if not isinstance(value, str):
        raise Broken(f"{key}: expected text, got {shown(value)}")
    return value


def score(values: Mapping[str, Any], key: str) -> float:
    """0 to 1; also `True` and `False`."""
    number = optional_score(values, key)
    if number is None:
        raise Broken(f"{key}: expected a number from 0 to 1, got none")
    return number


def truth(values: Mapping[str, Any], key: str) -> float:
    """`True` and `False`, 1 and 0, and nothing between."""
    number = _number(values, key, "True or False")
    if number not in (0, 1):
        raise Broken(f"{key}: expected True or False, got {'none' if number is None else shown(values[key])}")
    return number


def optional_score(values: Mapping[str, Any], key: str) -> float | None:
    number = _number(values, key, "a number from 0 to 1")
    if number is not None and not 0 <= number <= 1:
        raise Broken(f"{key}: expected a number from 0 to 1, got {shown(values[key])}")
    return number


def measure(values: Mapping[str, Any], key: str) -> float | None:
    """A number of 0 or more, or none."""
    number = _number(values, key, "a number of 0 or more")
    if number is not None and not 0 <= number <= LARGEST:
        raise Broken(f"{key}: expected a number of 0 or more, got {shown(values[key])}")
    return number


def _number(values: Mapping[str, Any], key: str, wanted: str) -> float | None:
    value = values.get(key)
    if value is None or value == "":
        return None
    if isinstance(value, str):
        truth = _TRUTH.get(value.strip().lower())
        try:
            value = float(value) if truth is None else truth
        except ValueError:
            raise Broken(f"{key}: expected {wanted}, got {shown(value)}") from None
    if not isinstance(value, (int, float)):
        raise Broken(f"{key}: expected {wanted}, got {shown(value)}")
    if value != value:
        return None
    return float(value) if abs(value) <= LARGEST else math.inf
