"""A checkpoint comes back as it was written; a bad one is refused with its name, the key and what was expected."""

import json
import re
import time

import msgspec
import numpy as np
import pytest

from router.errors import ConfigError
from router.heads import checkpoint


def split(path):
    """Header as objects, and the tensor bytes."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    return json.loads(data[8 : 8 + size]), data[8 + size :]


def join(path, header, body):
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % 64)
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def edit(path, change):
    header, body = split(path)
    change(header)
    join(path, header, body)


def edit_meta(path, change):
    def inside(header):
        meta = json.loads(header["__metadata__"]["headgate"])
        change(meta)
        header["__metadata__"]["headgate"] = json.dumps(meta)

    edit(path, inside)


def refuse(path, message):
    with pytest.raises(ConfigError, match=re.escape(str(path)) + ": " + message):
        checkpoint.read(path)


def test_round_trip(path, make_parts):
    meta, arrays = make_parts()
    found = checkpoint.read(path)
    assert found.meta == meta
    for name, array in arrays.items():
        np.testing.assert_array_equal(getattr(found, name), array)
        assert not getattr(found, name).flags.writeable


def test_rows_lie_on_cache_lines(path):
    assert checkpoint.read(path).table.ctypes.data % 64 == 0


def test_other_readers_can_open_it(path, make_parts):
    safetensors = pytest.importorskip("safetensors.numpy")
    found = safetensors.load_file(path)
    for name, array in make_parts()[1].items():
        np.testing.assert_array_equal(found[name], array)


def test_replaced_at_once(path, make_parts):
    before = checkpoint.read(path)
    table = before.table.copy()
    meta, arrays = make_parts()
    checkpoint.write(path, meta, {**arrays, "table": np.zeros_like(table)})
    np.testing.assert_array_equal(before.table, table)
    assert not checkpoint.read(path).table.any()
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_a_failed_write_leaves_nothing(path, make_parts):
    meta, arrays = make_parts()
    arrays["bias"][0] = np.nan
    with pytest.raises(ConfigError, match="bias: expected finite numbers"):
        checkpoint.write(path.with_name("other"), meta, arrays)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_fields_of_a_later_writer_are_ignored(path):
    edit_meta(path, lambda meta: meta.update(later="field"))
    assert checkpoint.read(path).meta.recipe


def test_missing_file(tmp_path):
    refuse(tmp_path / "none", "cannot be read: No such file")


def test_a_folder(tmp_path):
    refuse(tmp_path, "cannot be read: Is a directory")


@pytest.mark.parametrize("data", [b"x", b"hello, this is no checkpoint", b"PK\x03\x04" + b"\0" * 100, b"\xff" * 64])
def test_not_safetensors(tmp_path, data):
    file = tmp_path / "odd"
    file.write_bytes(data)
    refuse(file, "expected a safetensors file, got something else")


def test_empty_file(tmp_path):
    file = tmp_path / "odd"
    file.touch()
    refuse(file, "expected a safetensors file, got an empty file")


def test_truncated_anywhere(path):
    data = path.read_bytes()
    header = 8 + int.from_bytes(data[:8], "little")
    for size in (4, 100, header - 1, header, header + 100, len(data) - 1):
        path.write_bytes(data[:size])
        refuse(path, "(.*truncated: expected \\d+ bytes|expected a safetensors file)")


def test_broken_header(path):
    data = bytearray(path.read_bytes())
    data[20] = 0
    path.write_bytes(data)
    refuse(path, "header: expected safetensors' JSON")


def test_another_safetensors(path):
    edit(path, lambda header: header.pop("__metadata__"))
    refuse(path, "__metadata__.headgate: expected a Headgate checkpoint's metadata, got none")


def test_wrong_version(path):
    edit_meta(path, lambda meta: meta.update(format=99))
    refuse(path, "format: expected version 1, got 99")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda meta: meta.pop("encoder"), "encoder: expected the features' spec, got none"),
        (lambda meta: meta["encoder"].update(colour=1), r"__metadata__.headgate: .*unknown field `colour`"),
        (
            lambda meta: meta["encoder"].update(unk="x"),
            r".*headgate: Expected `int`, got `str` - at `\$.encoder.unk`",
        ),
        (lambda meta: meta["encoder"].update(word_rows=63), "encoder.word_rows: expected a power of two or 0, got 63"),
        (lambda meta: meta["turns"].update(decay=2.0), "turns.decay: expected a number above 0 and at most 1, got 2.0"),
        (lambda meta: meta.update(models=[]), "models: expected at least one model, got none"),
        (lambda meta: meta["models"].pop(), r"vectors: expected shape \[4, 16\], got \[5, 16\]"),
        (lambda meta: meta["encoder"].update(word_rows=128), r"table: expected shape \[312, any\], got \[248, 16\]"),
    ],
    ids=range(8),
)
def test_refused_metadata(path, change, message):
    edit_meta(path, change)
    refuse(path, message)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda h: h.pop("vectors"), r"vectors: expected this tensor, got \['bias', 'table', 'vocab'\]"),
        (lambda h: h["table"].update(dtype="BF16"), "table: expected dtype F16, F32, .*; got BF16"),
        (lambda h: h["bias"].update(dtype="I32"), "bias: expected float32, got int32"),
        (lambda h: h["table"].update(shape=[1, 16]), r"table: expected 32 bytes for shape \[1, 16\], got \d+"),
        (lambda h: h["bias"].update(shape=[-5]), r"bias: expected 0 bytes for shape \[-5\]"),
        (lambda h: h["bias"].update(shape=[1 << 80]), "bias: "),
        (lambda h: h["bias"].update(data_offsets=[-20, 0]), "bias: expected 20 bytes"),
        (lambda h: h["bias"].pop("dtype"), "bias: Object missing required field `dtype`"),
        (lambda h: h["bias"].update(data_offsets=[1, 21]), "bias: expected data aligned to its elements, got offset"),
    ],
    ids=range(9),
)
def test_refused_tensors(path, change, message):
    edit(path, change)
    refuse(path, message)


@pytest.mark.parametrize("name", ["table", "vectors", "bias"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_none(path, make_parts, name, value):
    header, body = split(path)
    first = header[name]["data_offsets"][1] - make_parts()[1][name].itemsize
    poison = np.array([value], make_parts()[1][name].dtype).tobytes()
    join(path, header, body[:first] + poison + body[first + len(poison) :])
    refuse(path, f"{name}: expected finite numbers, got an infinity or NaN")


def test_a_vocabulary_of_another_model(path, make_parts):
    meta, arrays = make_parts()
    arrays["vocab"] = arrays["vocab"] & ~np.uint64(0xFFFFF) | np.uint64(0xFFFF0)
    with pytest.raises(ConfigError, match=r"vocab: expected (at least one empty slot|ids below 56)"):
        checkpoint.write(path, meta, arrays)


def test_columns(path, make_parts):
    meta, arrays = make_parts(columns=24)
    with pytest.raises(ConfigError, match="table: expected a multiple of 16 columns, got 24"):
        checkpoint.write(path, meta, arrays)


def test_the_bundled_one(root):
    file = root / "router/checkpoints/default.safetensors"
    started = time.thread_time()
    found = checkpoint.read(file)
    assert time.thread_time() - started < 1
    assert file.stat().st_size <= 8_000_000
    assert found.meta.figures
    assert all(record.sha256 for record in found.meta.data)
    assert msgspec.json.decode(msgspec.json.encode(found.meta), type=checkpoint.Metadata) == found.meta
