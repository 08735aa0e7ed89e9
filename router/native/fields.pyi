"""The header fields of one request, as a parser finds them line by line.

Native because it is called for each line: a function in Python would cost half a microsecond each.
"""

class Fields:
    """The first line of each name counts; the names of further lines are in `repeated`."""

    values: dict[bytes, bytes]
    """By lower-case name, without the white space around. Each request has its own dict, which the caller may keep."""
    repeated: set[bytes] | None  #: names that stand more than once
    lines: int
    size: int  #: bytes of all lines

    def __init__(self) -> None: ...
    def add(self, name: bytes, value: bytes) -> None: ...
    def clear(self) -> None:
        """Ready for the next request."""
