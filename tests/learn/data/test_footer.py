"""A Parquet footer read without pyarrow: the figures that pyarrow reads, or a FooterError; never anything else."""

import io
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.learn.data import footer

TEXTS = pa.table({"prompt": ["a", "b", "aab"], "model": ["x", None, "y"], "score": [0.1, 0.9, None]})
NESTED = pa.table(
    {
        "turns": [[{"role": "u", "n": [1, 2]}], [], None],
        "map": pa.array([[("a", 1)], None, []], pa.map_(pa.string(), pa.int32())),
        "day": pa.array([1, 2, 3], pa.date32()),
        "sure": [True, False, None],
        "fixed": pa.array([b"1234", None, b"5678"], pa.binary(4)),
    }
)
DELTAS = {"prompt": "DELTA_BYTE_ARRAY", "model": "DELTA_LENGTH_BYTE_ARRAY", "score": "BYTE_STREAM_SPLIT"}
WAYS: dict[str, tuple[pa.Table, dict[str, Any]]] = {
    "texts": (TEXTS, {}),
    "groups": (TEXTS, {"row_group_size": 1}),
    "no rows": (TEXTS.slice(0, 0), {}),
    "no columns": (pa.table({}), {}),
    "nested": (NESTED, {"row_group_size": 2}),
    "many columns": (pa.table({f"c{i}": [i] for i in range(300)}), {"row_group_size": 1}),
    "many groups": (pa.table({"n": range(300)}), {"row_group_size": 1}),
    "deltas": (TEXTS, {"use_dictionary": False, "column_encoding": DELTAS}),
    "page index": (TEXTS, {"write_page_index": True, "write_page_checksum": True, "data_page_version": "2.0"}),
    "sorted": (TEXTS, {"sorting_columns": [pq.SortingColumn(0)], "compression": "zstd"}),
    "no statistics": (TEXTS, {"write_statistics": False, "store_schema": False, "version": "1.0"}),
}


def written(table: pa.Table, **how: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(table, file, **how)
    return file.getvalue()


def with_footer(content: bytes) -> bytes:
    return b"PAR1" + content + len(content).to_bytes(4, "little") + b"PAR1"


@pytest.mark.parametrize("way", WAYS)
def test_a_whole_file_gives_the_figures_that_pyarrow_reads(tmp_path: Path, way: str) -> None:
    table, how = WAYS[way]
    path = tmp_path / "x.parquet"
    path.write_bytes(written(table, **how))
    meta = pq.read_metadata(path)
    groups = footer.read(path)
    assert [len(group) for group in groups] == [meta.num_columns] * meta.num_row_groups
    for i, group in enumerate(groups):
        for j, chunk in enumerate(group):
            wanted = meta.row_group(i).column(j)
            assert (chunk.values, chunk.unpacked_bytes) == (wanted.num_values, wanted.total_uncompressed_size)
            assert chunk.is_delta == any(name.startswith("DELTA_") for name in wanted.encodings)


def test_columns_of_texts_written_as_differences_are_delta(tmp_path: Path) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(written(TEXTS, use_dictionary=False, column_encoding=DELTAS))
    assert [[chunk.is_delta for chunk in group] for group in footer.read(path)] == [[True, True, False]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"expected PAR1 at the end"),
        (b"PAR1", r"expected PAR1 at the end"),
        (b"PAR1\0\0\0\0\0\0\0\0PARE", r"expected PAR1 at the end: cut off, encrypted"),
        (b"PAR1" + (9).to_bytes(4, "little") + b"PAR1", r"expected a footer of at most 0 bytes, got 9"),
        (b"PAR1" + b"\xff" * 4 + b"PAR1", r"expected a footer of at most 0 bytes, got 4294967295"),
        (with_footer(b""), r"expected 1 bytes or more in the footer, got 0"),
        (with_footer(b"\x45\0\0"), r"field 4: expected type 9 once, got 5 before byte 1"),
        (with_footer(b"\x49\x0c\x09\x08\x0c\0"), r"field 4: expected type 9 once, got 9 before byte 4"),
        (with_footer(b"\x49\x15\0\0"), r"expected a list of type 12, got 5 before byte 2"),
        (with_footer(b"\x49\xfc\xff\xff\xff\xff\x0f\0"), r"expected fewer elements than 4294967295 before byte 7"),
        (with_footer(b"\x16" + b"\xff" * 10 + b"\0"), r"expected 12 bytes or more|at most 64 bits"),
        (with_footer(b"\x16" + b"\xff" * 10 + b"\x01\0"), r"expected a number of at most 64 bits before byte 12"),
        (with_footer(b"\x1e\0"), r"got the unknown type 14 before byte 1"),
        (with_footer(b"\x18\x7f\0"), r"expected 129 bytes or more in the footer, got 3"),
        (with_footer(b"\x1c" * 99), r"expected at most 32 levels"),
        (with_footer(b"\x19" * 99), r"expected at most 32 levels|expected fewer elements"),
        (with_footer(b"\x49\x1c\x19\x1c\0\0\0"), r"a column chunk lacks field 2 of its metadata: is it encrypted\?"),
    ],
)
def test_what_is_no_footer_is_refused_with_what_was_expected(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(footer.FooterError, match=message):
        footer.read(path)


def test_a_footer_cut_off_anywhere_is_refused() -> None:
    whole = written(NESTED, row_group_size=2)
    data = whole[-8 - int.from_bytes(whole[-8:-4], "little") : -8]
    assert len(footer.parse(data)) == 2
    for end in range(len(data)):
        with pytest.raises(footer.FooterError):
            footer.parse(data[:end])


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for data in (content, b"\x49\x1c\x19\x1c" + content):
        try:
            groups = footer.parse(data)
        except footer.FooterError:
            continue
        assert all(isinstance(chunk, footer.Chunk) for group in groups for chunk in group)
