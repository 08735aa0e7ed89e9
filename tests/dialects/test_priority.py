"""The priority that a body asks for, whatever the body is."""

import pytest

from router.dialects.priority import MOST, priority_of


@pytest.mark.parametrize(
    ("body", "priority"),
    [
        (b'{"messages": [], "priority": -3}', -3),
        (b'\xef\xbb\xbf{"priority": 7, "prompt": "x"}', 7),
        (b'{"messages": [{"role": "user", "content": "\\"priority\\": 9"}]}', 0),
        (b'{"tools": [{"priority": 9}]}', 0),
        (b'{"priority": null}', 0),
        (b'{"priority": "high"}', 0),
        (b'{"priority": 1.5}', 0),
        (b'{"priority": 99999999999999999999}', MOST),
        (b'{"priority": 12345678}', MOST),
        (b'{"priority": -12345678}', -MOST),
        (b'{"priority": 3', 0),
        (b"[1, 2]", 0),
        (b"\xff\xfe", 0),
        (b"", 0),
        (b"[" * 5_000, 0),
        (b'{"priority": 3, "prompt": "' + b"x" * 300_000 + b'"}', 0),
    ],
)
def test_a_whole_number_at_the_top_counts_and_all_else_is_none(body: bytes, priority: int) -> None:
    assert priority_of(body) == priority
