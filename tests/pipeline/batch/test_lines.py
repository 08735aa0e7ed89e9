"""Lines of an input: found whatever ends them, and read or refused by number."""

import json
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from router.pipeline.batch import lines
from router.pipeline.batch.lines import Found, LineFault

CHAT = "/v1/chat/completions"


@pytest.fixture
def found(tmp_path: Path) -> Iterator[object]:
    opened: list[int] = []

    def find(data: bytes, most: int = 100) -> list[tuple[int, bytes | None]]:
        path = tmp_path / "in"
        path.write_bytes(data)
        opened.append(os.open(path, os.O_RDONLY))
        return [(line.number, line.data) for line in lines.find(opened[-1], most)]

    yield find
    for descriptor in opened:
        os.close(descriptor)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b"\n\r\n \t\n", []),
        (b"a", [(1, b"a")]),
        (b"a\nb\n", [(1, b"a"), (2, b"b")]),
        (b"a\r\n\r\nb", [(1, b"a"), (3, b"b")]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", [(1, b"a"), (2, b"\xef\xbb\xbfb")]),
        (b"a\n" + b"x" * 101 + b"\nb", [(1, b"a"), (2, None), (3, b"b")]),
        (b"x" * 100, [(1, b"x" * 100)]),
        (b"x" * 101, [(1, None)]),
    ],
)
def test_lines_are_found_with_their_numbers(found, data, expected) -> None:  # type: ignore[no-untyped-def]
    assert found(data) == expected


def test_lines_that_cross_pieces_are_whole(found) -> None:  # type: ignore[no-untyped-def]
    random.seed(1)
    made = [b"x" * random.randrange(1, 90_000) for _ in range(60)]
    made[30] = b"y" * 400_000
    assert found(b"\n".join(made), most=300_000) == [
        (n, None if n == 31 else line) for n, line in enumerate(made, start=1)
    ]


def test_a_line_tells_where_it_begins_and_ends(tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"a\n\n  " + b"b" * 300_000 + b"\nc\n")
    with path.open("rb") as file:
        every = list(lines.find(file.fileno(), 1_000_000))
    assert [(line.start, line.end) for line in every] == [(0, 2), (3, 300_006), (300_006, 300_008)]


def test_lines_that_cross_pieces_of_any_size_are_found_as_in_one_piece(found, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    random.seed(2)
    parts = [b"\n", b"\r\n", b" ", b"\v\n", b"a", b"\xef\xbb\xbf", b"x" * 30]
    for _ in range(100):
        data = b"{" + b"".join(random.choices(parts, k=40))
        whole = [(number, line.strip(b" \t\r\v\f")) for number, line in enumerate(data.split(b"\n"), 1)]
        monkeypatch.setattr(lines, "_PIECE_BYTES", random.randrange(1, 80))
        assert found(data, most=10_000) == [each for each in whole if each[1]]


def test_ten_million_blank_lines_are_counted_without_a_look_at_each(found, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    looked_at = []
    one_found = lines._found
    monkeypatch.setattr(lines, "_found", lambda *line: looked_at.append(line) or one_found(*line))
    assert found(b"\n" * 5_000_000 + b"a\n" + b"\r\n" * 5_000_000 + b"b") == [(5_000_001, b"a"), (10_000_002, b"b")]
    assert len(looked_at) < 100


def read(**fields: object) -> lines.Asked:
    asked = {"custom_id": "a", "method": "POST", "url": CHAT, "body": {"messages": []}, **fields}
    return lines.read(Found(7, 0, 1, json.dumps(asked).encode()), CHAT, 100)


def test_a_good_line_is_read_and_its_body_left_as_it_is() -> None:
    asked = read(method="post", body={"messages": [], "x": None}, more=1)
    assert (asked.custom_id, bytes(asked.body)) == ("a", b'{"messages": [], "x": null}')


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (None, "line_too_long", "line 7 is over 100 bytes"),
        (b"{", "invalid_json_line", "line 7 is not valid JSON: Input data was truncated"),
        (b"[]", "invalid_line", "line 7: Expected `object`, got `array`"),
        (b"\xff", "invalid_json_line", "line 7 is not valid JSON: it is not UTF-8"),
        (b'{"custom_id": "\\ud83d"}', "invalid_json_line", "line 7 is not valid JSON"),
        (b'{"x":' + b"[" * 100_000, "invalid_json_line", "line 7 is not valid JSON"),
        (b'{"custom_id": 7}', "invalid_line", "line 7: Expected `str`, got `int` - at `$.custom_id`"),
        (b'{"custom_id": "a"}', "invalid_line", "line 7: Object missing required field `method`"),
    ],
)
def test_a_line_that_cannot_be_read_is_refused_with_its_number(data: bytes | None, code: str, message: str) -> None:
    with pytest.raises(LineFault) as refused:
        lines.read(Found(7, 0, 1, data), CHAT, 100)
    assert refused.value.code == code
    assert refused.value.message.startswith(message)
    assert refused.value.at(7).line == 7


@pytest.mark.parametrize(
    ("fields", "code", "message"),
    [
        ({"custom_id": ""}, "invalid_custom_id", "line 7: `custom_id`: expected 1 to 512 characters, got 0"),
        ({"custom_id": "x" * 513}, "invalid_custom_id", "line 7: `custom_id`: expected 1 to 512 characters, got 513"),
        ({"method": "GET"}, "invalid_method", "line 7: `method`: expected `POST`, got 'GET'"),
        ({"url": "/v1/x"}, "mismatched_url", f"line 7: `url`: expected {CHAT}, the batch's endpoint, got '/v1/x'"),
        ({"body": None}, "invalid_body", "line 7: `body`: expected an object"),
        ({"body": [{}]}, "invalid_body", "line 7: `body`: expected an object"),
    ],
)
def test_a_line_that_asks_for_the_wrong_is_refused_by_its_name(
    fields: dict[str, object], code: str, message: str
) -> None:
    with pytest.raises(LineFault) as refused:
        read(**fields)
    assert (refused.value.code, refused.value.message) == (code, message)
    assert refused.value.custom_id == str(fields.get("custom_id", "a"))[:512]
