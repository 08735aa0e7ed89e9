"""`python -m tests.storm SEED ...`: the storms of these seeds, one after another."""

import logging
import sys
import time

from tests.storm.house import storm

if __name__ == "__main__":
    logging.basicConfig(level="CRITICAL")
    for seed in map(int, sys.argv[1:]):
        begun = time.monotonic()
        arrows = storm(seed)
        print(f"seed {seed}: every request ended once, {len(arrows)} arrows, {time.monotonic() - begun:.1f} s")
