"""Benches are programs beside one another, not a package: their folder goes on the path, as when one is run."""

import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent.parent / "bench"
for folder in (BENCH / "gpu", BENCH):
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
