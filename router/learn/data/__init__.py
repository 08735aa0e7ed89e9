"""Tables of outcomes, battles and prompts: read, imported, described, held together and split."""

import contextlib

# Before usearch, which a knn checkpoint loads: the other way round, pyarrow ends the process when it reads a time with
# a zone (seen with usearch 2.26.6 and pyarrow 26.0.1).
with contextlib.suppress(ModuleNotFoundError):
    import pyarrow  # noqa: F401
