"""A stored USearch graph: taken when whole; refused, before it is searched, where a number would lead out of it."""

import os
import subprocess
import sys

import numpy as np
import pytest
import usearch.index

from router.heads import graph

DIMENSIONS = 16
#: Changes a byte behind the vectors, to each of three values, reads the graph and searches what is not refused.
DAMAGE = """
import sys
import numpy as np
import usearch.index
from router.heads import graph
whole = np.fromfile(sys.argv[1], np.uint8)
rows, dimensions, taken, refused = int(sys.argv[2]), int(sys.argv[3]), 0, 0
points = np.eye(dimensions, dtype=np.float32)
places = np.random.default_rng(3).integers(8 + 2 * rows * dimensions, len(whole), 700)
for at in (*range(8), *range(8 + 2 * rows * dimensions, 8 + 2 * rows * dimensions + 110), *places):
    for value in (whole[at] ^ 1, whole[at] ^ 64, whole[at] ^ 255):
        print(f"byte {at} of {len(whole)} set to {value}", file=sys.stderr)
        data = whole.copy()
        data[at] = value
        try:
            graph.check(data, rows, dimensions)
            index = usearch.index.Index.restore(data.data, view=True)
        except (ValueError, RuntimeError):
            refused += 1
            continue
        if (len(index), index.ndim, index.dtype) == (rows, dimensions, usearch.index.ScalarKind.F16):
            assert (index.search(points, 10, threads=1).keys < rows).all()
            taken += 1
print(taken, refused)
"""


def stored(rows: int) -> np.ndarray:
    points = np.random.default_rng(rows).standard_normal((rows, DIMENSIONS)).astype(np.float32)
    points /= np.linalg.norm(points, axis=1, keepdims=True)
    index = usearch.index.Index(ndim=DIMENSIONS, metric="ip", dtype="f16", connectivity=8)
    index.add(np.arange(rows), points, threads=1)
    return np.frombuffer(bytes(index.save()), np.uint8)


@pytest.mark.parametrize("rows", [1, 2, 17, 600])
def test_a_whole_graph_is_taken(rows):
    graph.check(stored(rows), rows, DIMENSIONS)


@pytest.mark.parametrize("other", [(599, DIMENSIONS), (601, DIMENSIONS), (600, DIMENSIONS + 1), (1, 1)])
def test_a_graph_of_other_rows_or_dimensions_is_refused(other):
    with pytest.raises(ValueError, match=r"expected (\d+ vectors of \d+ halves|\d+ bytes or more), got "):
        graph.check(stored(600), *other)


def test_a_graph_cut_off_or_with_more_behind_it_is_refused():
    whole = stored(200)
    for data in (whole[:0], whole[:8], whole[:-1], np.append(whole, np.uint8(0))):
        with pytest.raises(ValueError, match=r"expected \d+ bytes( or more)?, got \d+"):
            graph.check(data, 200, DIMENSIONS)


VECTORS = 8 + 2 * 200 * DIMENSIONS
NODES = VECTORS + 64 + 40 + 2 * 200


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (8, b"\x00\x7e", r"finite numbers in its vectors"),
        (VECTORS, b"x", r"usearch's head"),
        (VECTORS + 64, b"\xc9", r"expected 200 nodes, got 201"),
        (VECTORS + 72, b"\x00", r"1 to 1024 neighbours, got \(0, 16\)"),
        (VECTORS + 96, b"\xc8", r"a first node of the highest level, got 200"),
        (VECTORS + 104, b"\xff\xff", r"levels from 0 to 64"),
        (NODES, b"\xc8", r"expected keys below 200, got 200"),
        (NODES + 8, b"\x07", r"each node's level twice"),
        (NODES + 10, b"\x11", r"at most 16 neighbours, got 17"),
        (NODES + 14, b"\xc8", r"neighbours below 200, got 200"),
    ],
)
def test_a_number_that_leads_out_of_the_graph_is_refused_by_what_it_is(at, value, message):
    data = stored(200).copy()
    data[at : at + len(value)] = np.frombuffer(value, np.uint8)
    with pytest.raises(ValueError, match=message):
        graph.check(data, 200, DIMENSIONS)


def test_a_damaged_byte_never_ends_the_process(tmp_path):
    path = tmp_path / "graph"
    stored(200).tofile(path)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    program = [sys.executable, "-P", "-c", DAMAGE, str(path), "200", str(DIMENSIONS)]
    done = subprocess.run(program, capture_output=True, text=True, timeout=900, env=environment)
    assert done.returncode == 0, done.stderr[-1000:]
    taken, refused = map(int, done.stdout.split())
    assert taken > 100
    assert refused > 100
