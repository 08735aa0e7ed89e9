"""The bounds of the config's numbers, as part of each field's type: `keepalive_s: Seconds`.

    for key, value, allowed in outside(config): ...

Finds every number that is not finite or not within its bounds, whether a file, a flag or code has made the struct.
"""

import math
from collections.abc import Iterator
from typing import Annotated, get_args, get_type_hints

import msgspec


class Between(msgspec.Struct, frozen=True):
    """From `least` to `most`, both included."""

    least: float
    most: float
    unit: str = ""

    def holds(self, value: float) -> bool:
        """False for NaN too, and for what is no number."""
        return not isinstance(value, bool) and isinstance(value, int | float) and self.least <= value <= self.most

    def __str__(self) -> str:
        return f"{_shown(self.least)} to {_shown(self.most)}{self.unit and ' '}{self.unit}"


_DAY_S = 86_400
#: Of an hour, a week or a million of anything there is no need to hold more; natively counts are 64 bits wide.
Bytes = Annotated[int, Between(1, 1 << 40, "bytes")]
HeadBytes = Annotated[int, Between(256, 1 << 24, "bytes")]  #: a request's headers: fewer, and none fits
Count = Annotated[int, Between(1, 1_000_000)]
MOST_ENGINES = 1_000  #: of one model
Engines = Annotated[int, Between(1, MOST_ENGINES)]
Places = Annotated[int, Between(0, 1_000_000)]  #: may be none at all
Ids = Annotated[int, Between(0, 10_000_000)]  #: held in memory
Tokens = Annotated[int, Between(0, 1_000_000_000, "tokens")]
OutputTokens = Annotated[float, Between(1, 1_000_000_000, "tokens")]
Port = Annotated[int, Between(0, 65_535)]
Seconds = Annotated[float, Between(0.001, 7 * _DAY_S, "seconds")]  #: of a time-out: none at once, none for ever
Wait = Annotated[float, Between(0, 7 * _DAY_S, "seconds")]  #: may be none at all
Pause = Annotated[float, Between(0.05, _DAY_S, "seconds")]  #: between looks: shorter ones only heat the machine
Age = Annotated[float, Between(1, 3_650 * _DAY_S, "seconds")]  #: of files
SegmentBytes = Annotated[int, Between(4_096, 1 << 40, "bytes")]
Price = Annotated[float, Between(0, 1e12)]
Rate = Annotated[float, Between(0, 1e9, "a second")]
Percent = Annotated[int, Between(1, 100, "percent")]
Unit = Annotated[float, Between(0, 1)]
Share = Annotated[float, Between(0.001, 1)]
Part = Annotated[float, Between(0.001, 0.999)]  #: neither nothing nor all
Factor = Annotated[float, Between(1, 1e6)]
Milliseconds = Annotated[float, Between(1, 7 * _DAY_S * 1e3, "milliseconds")]


def outside(struct: msgspec.Struct, at: str = "$") -> Iterator[tuple[str, object, Between]]:
    """Key, value and bounds of every number of `struct`, and of the structs in it, that is out of bounds."""
    for name, hint in get_type_hints(type(struct), include_extras=True).items():
        value = getattr(struct, name)
        if isinstance(value, msgspec.Struct):
            yield from outside(value, f"{at}.{name}")
        elif isinstance(value, tuple):
            for i, item in enumerate(value):
                if isinstance(item, msgspec.Struct):
                    yield from outside(item, f"{at}.{name}[{i}]")
        elif isinstance(value, dict):
            for key, item in value.items():
                if isinstance(item, msgspec.Struct):
                    yield from outside(item, f"{at}.{name}.{key}")
        else:
            bounds = bounds_of(hint)
            if bounds is not None and value is not None and not bounds.holds(value):
                yield f"{at}.{name}", value, bounds


def bounds_of(hint: object) -> Between | None:
    """The bounds in a field's type, optional or not."""
    parts = [hint, *get_args(hint)]
    found = [extra for part in parts for extra in getattr(part, "__metadata__", ()) if isinstance(extra, Between)]
    return found[0] if found else None


def _shown(number: float) -> str:
    return f"{int(number):,}" if math.isfinite(number) and number == int(number) else f"{number:g}"
