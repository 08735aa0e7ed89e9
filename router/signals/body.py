"""All text of a request's body, whatever field it stands in: tool calls, schemas and documents too."""

from typing import Any

import msgspec

_decode = msgspec.json.Decoder().decode


def text_of(body: bytes) -> str | None:
    """Every text and number of a JSON body, keys too, a line each; None where it cannot be read as JSON."""
    try:
        left: list[Any] = [_decode(body)]
    except (msgspec.DecodeError, RecursionError):
        return None
    lines: list[str] = []
    while left:
        node = left.pop()
        if isinstance(node, dict):
            left += node.values()
            lines += node
        elif isinstance(node, list):
            left += node
        elif isinstance(node, str):
            lines.append(node)
        elif isinstance(node, int | float) and not isinstance(node, bool):
            lines.append(str(node))
    return "\n".join(lines)
