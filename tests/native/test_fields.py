"""Header fields, gathered line by line: the first line of a name counts, further ones are known."""

import pytest

from router.native.fields import Fields


def test_names_are_lowered_and_values_stripped_of_blanks_and_tabs_only() -> None:
    fields = Fields()
    for name, value in (
        (b"Host", b" \ta b\t "),
        (b"X-A", b""),
        (b"x-b", b" \t"),
        (b"x-c", b"\xa0\x0b"),
        (b"x-d", b"v"),
    ):
        fields.add(name, value)
    assert fields.values == {b"host": b"a b", b"x-a": b"", b"x-b": b"", b"x-c": b"\xa0\x0b", b"x-d": b"v"}
    assert (fields.lines, fields.size, fields.repeated) == (5, 48, None)


@pytest.mark.parametrize("values", [(b"a", b"b"), (b"a", b"a"), (b"", b""), (b"a", b""), (b"long one", b"long one")])
def test_a_second_line_of_a_name_is_known_whatever_it_says(values: tuple[bytes, bytes]) -> None:
    fields = Fields()
    fields.add(b"Host", values[0])
    fields.add(b"a", b"b")
    fields.add(b"HOST", values[1])
    fields.add(b"host", b"third")
    assert fields.values == {b"host": values[0], b"a": b"b"}
    assert fields.repeated == {b"host"}
    assert fields.lines == 4


def test_each_request_has_fields_of_its_own() -> None:
    fields = Fields()
    fields.add(b"a", b"1")
    kept = fields.values
    fields.clear()
    fields.add(b"b", b"2")
    assert (kept, fields.values, fields.lines, fields.repeated) == ({b"a": b"1"}, {b"b": b"2"}, 1, None)


def test_what_is_no_bytes_is_refused() -> None:
    with pytest.raises(TypeError):
        Fields().add("a", b"b")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Fields().add(b"a", None)  # type: ignore[arg-type]
