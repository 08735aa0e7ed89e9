"""What a JSON text holds, counted without decoding it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.native.json_size import count_values

trees = st.recursive(
    st.one_of(st.none(), st.integers(), st.text('",:[]{}\\ax\u00e9')),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text('",:\\a'), inner, max_size=4)),
)


def marks(tree: object) -> int:
    if isinstance(tree, list):
        return 1 + max(len(tree) - 1, 0) + sum(map(marks, tree))
    if isinstance(tree, dict):
        return 1 + len(tree) + max(len(tree) - 1, 0) + sum(map(marks, tree.values()))
    return 0


@given(trees, st.booleans())
def test_objects_lists_keys_and_values_are_counted_and_what_texts_hold_is_not(tree: object, ascii: bool) -> None:
    assert count_values(json.dumps(tree, ensure_ascii=ascii).encode()) == marks(tree)


@pytest.mark.parametrize(
    ("text", "count"),
    [(b"", 0), (b'"', 0), (b'"\\', 0), (b'"\\"', 0), (b'"\\\\",', 1), (b'",,,', 0), (b"[[,", 3), (b"\0\xff{", 1)],
)
def test_what_is_no_json_is_counted_up_to_its_end(text: bytes, count: int) -> None:
    assert count_values(text) == count
