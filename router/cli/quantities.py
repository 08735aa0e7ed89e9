"""Quantities of flags, refused with what is allowed where the flag is read: for `type=` of argparse. Whole numbers:
`numbers`."""

import argparse

from router.cli import numbers


def positive(text: str) -> float:
    value = not_negative(text)
    if value == 0:
        raise argparse.ArgumentTypeError(f"expected a number above 0, got {text!r}")
    return value


def not_negative(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1e9:  # NaN is refused too
        raise argparse.ArgumentTypeError(f"expected a number from 0, got {text!r}")
    return value


def share(text: str) -> float:
    value = not_negative(text)
    if not 0 < value <= 1:
        raise argparse.ArgumentTypeError(f"expected a share above 0 and up to 1, got {text!r}")
    return value


def two(text: str) -> tuple[float, float]:
    first, second = _several(text, 2, "two numbers above 0 as in 1,20")
    return first, second


def three(text: str, form: str) -> tuple[float, float, float]:
    first, second, third = _several(text, 3, form)
    return first, second, third


def _several(text: str, count: int, form: str) -> list[float]:
    parts = text.split(",")
    if len(parts) != count:
        raise argparse.ArgumentTypeError(f"expected {form}, got {text!r}")
    return [positive(part) for part in parts]


def burst(text: str) -> tuple[float, float, float]:
    factor, seconds, every = three(text, "FACTOR,SECONDS,EVERY as in 5,10,60")
    if seconds >= every:
        raise argparse.ArgumentTypeError(f"expected a burst shorter than its period, got {text!r}")
    return factor, seconds, every


def lengths(text: str) -> tuple[int, int]:
    try:
        first, second = (numbers.whole(1, 1 << 20)(part) for part in text.split(","))
    except (ValueError, argparse.ArgumentTypeError):
        raise argparse.ArgumentTypeError(f"expected two numbers of tokens as in 512,128, got {text!r}") from None
    return first, second


def slo(text: str) -> dict[str, float]:
    out = {}
    for part in text.split(","):
        key, equals, value = part.partition("=")
        if key not in ("ttft_ms", "tpot_ms", "e2e_ms") or not equals:
            raise argparse.ArgumentTypeError(f"expected ttft_ms=..., tpot_ms=... or e2e_ms=..., got {part!r}")
        out[key] = positive(value)
    return out
