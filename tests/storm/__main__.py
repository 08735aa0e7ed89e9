"""`python -m tests.storm SEED ...`: the storms of these seeds, one after another, and how each went. Ends with 1 where
one found a fault."""

import logging
import sys
import time
import traceback

from tests.storm.house import storm


def main(seeds: list[int]) -> int:
    logging.basicConfig(level="CRITICAL")
    found = 0
    for seed in seeds:
        begun = time.monotonic()
        try:
            arrows = storm(seed)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            found = 1
            traceback.print_exc()
        else:
            took_s = time.monotonic() - begun
            print(f"seed {seed}: every request ended once, by {len(arrows)} arrows; {took_s:.1f} s", flush=True)
    return found


if __name__ == "__main__":
    sys.exit(main([int(seed) for seed in sys.argv[1:]] or [1]))
