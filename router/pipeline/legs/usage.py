"""`usage.headgate`: how many tokens each model made for an answer, where several did, within the usage that the client
is told anyway. The engine that tells it knows its own part only.
"""

import re
from collections.abc import Mapping

import msgspec

#: Cannot stand within a JSON string, where its quotes would be escaped.
_USAGE = re.compile(rb'"usage":\s?\{')
_COMPLETION = re.compile(rb'"completion_tokens":\s?(\d+)')


def with_tokens(data: bytes, model: str, counted: int, others: Mapping[str, int]) -> bytes:
    """`data`, an answer's bytes, with the tokens by model in each usage within. `others`: of the models before;
    `counted`: so many of these are in the answer's own count, the rest of which `model` made."""
    at, parts = 0, []
    for found in _USAGE.finditer(data):
        completion = _COMPLETION.search(data, found.end())
        if completion is None:
            break
        tokens = dict(others)
        tokens[model] = tokens.get(model, 0) + max(int(completion[1]) - counted, 0)
        parts += [data[at : found.end()], b'"headgate":', msgspec.json.encode(tokens)]
        parts.append(b"" if data[found.end() : found.end() + 1] == b"}" else b",")
        at = found.end()
    return data if not parts else b"".join([*parts, data[at:]])
