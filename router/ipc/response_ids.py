"""The ids of stored answers, which tell who has them, so that no table has to be kept and a restarted frontend finds
them: `resp_` and 32 hexadecimal digits, as vLLM's own.

    resp_  8: of the member's name  |  6: of its host's process id  |  18: random
"""

import re
import secrets
import zlib
from typing import NamedTuple

_ID = re.compile(r"resp_([0-9a-f]{8})([0-9a-f]{6})[0-9a-f]{18}")
_PROCESSES = 1 << 24


class Holder(NamedTuple):
    """Who has an answer. Another process of the same member has lost it."""

    member: int
    process: int


def holder(name: str, process_id: int) -> Holder:
    """That of the member called `name` with a host of this process id."""
    return Holder(zlib.crc32(name.encode()), process_id % _PROCESSES)


def new_id(of: Holder) -> str:
    return f"resp_{of.member:08x}{of.process:06x}{secrets.token_hex(9)}"


def holder_of(id: str) -> Holder | None:
    """None of an id that no host made: the client's own, or one of another server."""
    found = _ID.fullmatch(id)
    return None if found is None else Holder(int(found[1], 16), int(found[2], 16))
