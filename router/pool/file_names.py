"""What the files of an engine are called in the runtime folder."""

import re
import zlib
from pathlib import Path

_GENERATION = re.compile(r"-[0-9a-f]{8}-([0-9]{1,9})\.sock")


def file_name(member: str, generation: int) -> str:
    """Without its ending: unique, safe in a path, and short enough for a socket's 107 bytes."""
    safe = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in member)
    return f"{safe[:20]}-{zlib.crc32(member.encode()):08x}" + (f"-{generation}" if generation else "")


def generation_in(folder: Path) -> int:
    """The highest of the sockets that are there; 0: there is none."""
    found = (_GENERATION.search(file.name) for file in folder.glob("*.sock"))
    return max((int(match[1]) for match in found if match), default=0)
