"""`python -P -m router.host.check`: checks the engine arguments of a pool by vLLM's own parser, without an engine.

Standard input: a JSON list of `HostSpec`s. Standard output: the first `ArgumentRefusal` as JSON, or `null`. Argument
names are checked first, in a fraction of a second; checking values imports vLLM, which takes seconds.
"""

import os
import sys

import msgspec

from router.host.adapter import arguments
from router.host.adapter.names import names
from router.ipc.spec import ArgumentRefusal, HostSpec


def main() -> int:
    specs = msgspec.json.decode(sys.stdin.buffer.read(), type=list[HostSpec])
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # vLLM prints while it is imported
        out.write(msgspec.json.encode(first_refusal(specs)))
    return 0


def first_refusal(specs: list[HostSpec]) -> ArgumentRefusal | None:
    """The first argument that is refused; None where all are fine."""
    known = names()
    for index, spec in enumerate(specs if known else ()):
        try:
            arguments.look_at_names(spec, known)
        except arguments.ArgumentRefused as error:
            return ArgumentRefusal(index=index, key=error.key, why=error.why)
    for index, spec in enumerate(specs):
        try:
            arguments.parse(spec)
        except arguments.ArgumentRefused as error:
            return ArgumentRefusal(index=index, key=error.key, why=error.why)
    return None


if __name__ == "__main__":
    sys.exit(main())
