"""Checks the bytes of a USearch index before they are used: its search follows numbers of the file as they are, so that
a damaged one ends the process.

    u32 rows, u32 bytes of a row | rows: F16 vectors | head: 64 bytes, "usearch" first |
    u64 size, connectivity, connectivity of level 0, highest level, first node searched |
    i16 level of each node | each node: u64 key, i16 level, lists of neighbours of level 0, 1, ... its level

A list has a u32 count and as many u32 numbers of nodes as its level's connectivity, those from the count on unused.
"""

import numpy as np
import numpy.typing as npt

_HEAD = 64
_MAGIC = b"usearch"
_MOST_CONNECTIVITY = 1024
_MOST_LEVEL = 64
_NODE = 10  #: bytes of a key and a level
_AT_ONCE = 4096  #: nodes whose lists are copied to be checked

Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]


def check(stored: Bytes, rows: int, dimensions: int) -> None:
    """Raises ValueError where these bytes are not a whole graph of so many F16 vectors whose keys are their rows."""
    base = 8 + 2 * rows * dimensions
    levels_at = base + _HEAD + 40
    nodes_at = levels_at + 2 * rows
    _expect(len(stored) >= nodes_at, f"{nodes_at} bytes or more", len(stored))
    shape = stored[:8].view("<u4").tolist()
    _expect(
        shape == [rows, 2 * dimensions], f"{rows} vectors of {dimensions} halves", f"{shape[0]} of {shape[1]} bytes"
    )
    _expect(bool(np.isfinite(stored[8:base].view("<f2")).all()), "finite numbers in its vectors", "others")
    _expect(stored[base : base + 7].tobytes() == _MAGIC, "usearch's head", "another")
    size, upper, lowest, highest, first = stored[base + _HEAD : levels_at].copy().view("<u8").tolist()
    _expect(size == rows, f"{rows} nodes", size)
    _expect(all(1 <= one <= _MOST_CONNECTIVITY for one in (upper, lowest)), "1 to 1024 neighbours", (upper, lowest))
    levels = stored[levels_at:nodes_at].copy().view("<i2").astype(np.int64)
    _expect(rows > 0 and levels.min() >= 0 and levels.max() <= _MOST_LEVEL, f"levels from 0 to {_MOST_LEVEL}", "others")
    _expect(first < rows and highest == levels.max() == levels[first], "a first node of the highest level", first)
    widths = _NODE + 4 * (1 + lowest) + 4 * (1 + upper) * levels
    ends = nodes_at + np.cumsum(widths)
    _expect(ends[-1] == len(stored), f"{ends[-1]} bytes", len(stored))
    _check_nodes(stored, ends - widths, levels, (lowest, upper))


def _check_nodes(stored: Bytes, begins: Ints, levels: Ints, connectivity: tuple[int, int]) -> None:
    rows = len(levels)
    keys = _numbers(stored, begins, 8, "<u8")[:, 0]
    _expect(bool((keys < rows).all()), f"keys below {rows}", keys.max())
    _expect(bool((_numbers(stored, begins + 8, 2, "<i2")[:, 0] == levels).all()), "each node's level twice", "two")
    lowest, upper = connectivity
    for level in range(int(levels.max()) + 1):
        of_level = begins[levels >= level]
        at = of_level + _NODE + (4 * (1 + lowest) + 4 * (1 + upper) * (level - 1) if level else 0)
        width = upper if level else lowest
        for start in range(0, len(at), _AT_ONCE):
            lists = _numbers(stored, at[start : start + _AT_ONCE], 4 * (1 + width), "<u4")
            _check_lists(lists[:, 0], lists[:, 1:], levels, level)


def _check_lists(counts: Ints, neighbours: Ints, levels: Ints, level: int) -> None:
    rows, width = len(levels), neighbours.shape[1]
    _expect(bool((counts <= width).all()), f"at most {width} neighbours", counts.max())
    used = neighbours[np.arange(width) < counts[:, None]]
    _expect(bool((used < rows).all()), f"neighbours below {rows}", used.max(initial=0))
    _expect(bool((levels[used] >= level).all()), f"neighbours of level {level}", "others")


def _numbers(stored: Bytes, at: Ints, size: int, kind: str) -> Ints:
    """[places, numbers]: `size` bytes from each place on."""
    found = stored[at[:, None] + np.arange(size)].view(kind)
    return found if kind == "<u8" else found.astype(np.int64)


def _expect(holds: bool, what: str, got: object) -> None:
    if not holds:
        raise ValueError(f"expected {what}, got {got}")
