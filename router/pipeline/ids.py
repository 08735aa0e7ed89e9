"""Ids of requests: they must differ, not be secret: a random start per process, then a count."""

import secrets
from itertools import count

process_id = secrets.token_hex(8)
next_number = count(1).__next__


def next_id() -> str:
    """Native code writes the same (`native.request`)."""
    return f"{process_id}{next_number():08x}"
