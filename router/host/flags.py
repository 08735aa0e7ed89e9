"""`python -P -m router.host.flags`: reads a `vllm serve` command line by vLLM's own parser, without an engine.

Standard input: the words behind `serve` as a JSON list, which may hold a key. Standard output: `ServeFlags` as JSON.
"""

import os
import sys

import msgspec

from router.host.adapter.serve_flags import read


def main() -> int:
    words = msgspec.json.decode(sys.stdin.buffer.read(), type=list[str])
    with os.fdopen(os.dup(1), "wb") as out:
        os.dup2(2, 1)  # vLLM prints while it is imported
        out.write(msgspec.json.encode(read(words)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
