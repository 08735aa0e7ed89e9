"""Searches regular expressions: reads `[pattern, text]` a line, writes 1 or 0. A program of its own, as a search may
never end; knows nothing of `router`."""

import json
import re
import sys


def main() -> None:
    print("ready", flush=True)
    for line in sys.stdin:
        pattern, text = json.loads(line)
        print(int(re.search(pattern, text) is not None), flush=True)


if __name__ == "__main__":
    main()
