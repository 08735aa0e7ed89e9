"""Numbers of flags, refused with what is allowed where the flag is read: for `type=` of argparse, which names it."""

import argparse
from collections.abc import Callable

MOST = 2**31 - 1


def whole(least: int, most: int = MOST) -> Callable[[str], int]:
    """A whole number from `least` to `most`."""

    def read(text: str) -> int:
        # `int` also takes blanks, `1_000` and digits of other scripts, which are hardly meant.
        digits = text.removeprefix("-")
        number = int(text) if digits.isascii() and digits.isdecimal() and len(digits) < 20 else None
        if number is None or not least <= number <= most:
            raise argparse.ArgumentTypeError(f"expected a whole number from {least} to {most}, got {text!r}")
        return number

    return read


folds = whole(2, 50)
seed = whole(0, 2**32 - 1)
