"""The priority that a body asks for, of a request that has to wait: lower starts earlier, as in vLLM.

Read where it is needed, apart from the rest: most requests do not wait.
"""

from typing import Final

import msgspec

from router.dialects.parse import BOM

#: Engines take 64 bits; the gate's order needs no more than this.
MOST: Final = 1_000_000
#: Of a longer body it is not looked for: that would take milliseconds.
_MOST_BYTES: Final = 256 * 1024


class _Ranked(msgspec.Struct):
    priority: int | None = None


_decode = msgspec.json.Decoder(_Ranked).decode


def priority_of(body: bytes) -> int:
    """-`MOST` to `MOST`; 0 where it says none, or what is no whole number: the engine judges that."""
    if len(body) > _MOST_BYTES:
        return 0
    try:
        found = _decode(body.removeprefix(BOM)).priority
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return 0
    return 0 if found is None else max(-MOST, min(found, MOST))
