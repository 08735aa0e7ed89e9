"""YAML of any size and shape: read within bounds, or refused with line and column."""

import os
from pathlib import Path

import pytest

from router import config
from router.errors import ConfigError

POOL = "pool: [{name: a, kind: openai, url: 'http://h'}]\n"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: &a [*a]", "line 1, column 8: *a stands within itself"),
        ("a: &a {b: {c: *a}}", "*a stands within itself"),
        (LAUGHS, "more than 200000 values, aliases followed"),
        ("x: &x {a: 1}\n" + POOL + "y: {<<: [" + ", ".join(["*x"] * 70_000) + "]}", "values, aliases followed"),
        ("[" * 5000, "line 1, column 65: more than 64 deep"),
        ("{a: " * 3000, "more than 64 deep"),
        ("- " * 2000, "more than 64 deep"),
        (f"server: {{port: 1}}\nserver: {{port: 2}}\n{POOL}", "line 2, column 1: the key 'server' stands twice"),
        ("server: {port: 1, port: 2}", "line 1, column 19: the key 'port' stands twice"),
        ("1.5: x", "a key must be text: '1.5'; quote it"),
        ("-1: x", "a key must be text: '-1'; quote it"),
        ("0x1: x", "a key must be text: '0x1'; quote it"),
        ("on: x", "a key must be text: 'on'; quote it"),
        ("null: x", "a key must be text: 'null'; quote it"),
        ("[a]: x", "a key must be text; quote it"),
        ("server:\n\tport: 1", "line 2, column 1: found character '\\t' that cannot start any token"),
        ("a: [", "line 1, column 5: expected the node content"),
        ("a: *nope", "found undefined alias 'nope'"),
        ("a: !ENV K", "could not determine a constructor for the tag '!ENV'"),
        ("a: !!python/object:os.system {}", "could not determine a constructor for the tag"),
        ("a: !!binary aGk=", "could not determine a constructor for the tag"),
        ("a: 1\n---\nb: 1", "found another document"),
        ("\x00\x01\x02", "unacceptable character #x0000"),
        (f"server: {{port: {'9' * 5000}}}", "Exceeds the limit (4300 digits)"),
        ("a" * (1 << 20) + "a", "longer than 1048576 characters"),
    ],
)  # fmt: skip
def test_what_no_config_holds_is_refused_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        config.parse(text, source="h.yaml", env={})
    assert str(refused.value).startswith("h.yaml: not valid YAML: ")
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "~"])
def test_an_empty_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"h\.yaml: expected a mapping at the top, got nothing"):
        config.parse(text, source="h.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("server: {port: 8:00}", "Expected `int`, got `str` - at `$.server.port`: '8:00'"),
        ("server: {host: no}", "Expected `str`, got `bool` - at `$.server.host`: False; quote it"),
        ("server: {api_keys: [1234]}", "Expected `str`, got `int` - at `$.server.api_keys[0]`; quote it"),
        ("routing: {checkpoint: 2024-99-99}", ""),
    ],
)
def test_a_scalar_is_what_it_looks_like(text: str, message: str) -> None:
    if not message:
        assert config.parse(f"{text}\n{POOL}").routing.checkpoint == "2024-99-99"
        return
    with pytest.raises(ConfigError) as refused:
        config.parse(f"{text}\n{POOL}")
    assert message in str(refused.value)


def test_aliases_and_merges_of_a_usual_size_are_read() -> None:
    text = """
pool:
- {name: a, model: m, engine_args: &args {dtype: float32, x: 1}, env: &env {A: b}}
- {name: b, model: m, engine_args: {<<: *args, x: 2}, env: *env}
"""
    first, second = config.parse(text).pool
    assert (first.engine_args, second.engine_args) == ({"dtype": "float32", "x": 1}, {"dtype": "float32", "x": 2})
    assert second.env == {"A": "b"}


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    file = tmp_path / "h.yaml"
    file.write_bytes(b"\xef\xbb\xbf" + POOL.encode())
    assert config.load(file).pool[0].name == "a"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (POOL.encode("utf-16"), "cannot be read: 'utf-8' codec can't decode"),
        (os.urandom(4096) + b"\xff\xff", "cannot be read: 'utf-8' codec can't decode"),
        (b"\0" * 1000, "not valid YAML"),
    ],
)
def test_a_file_that_is_no_text_is_refused(tmp_path: Path, data: bytes, message: str) -> None:
    file = tmp_path / "h.yaml"
    file.write_bytes(data)
    with pytest.raises(ConfigError) as refused:
        config.load(file)
    assert str(refused.value).startswith(f"{file}: {message}")


def test_of_a_file_of_100_megabytes_only_the_first_is_read(tmp_path: Path) -> None:
    file = tmp_path / "h.yaml"
    with file.open("wb") as sparse:
        sparse.truncate(100 << 20)
    with pytest.raises(ConfigError, match="longer than 1048576 bytes"):
        config.load(file)


def test_a_folder_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected a config file, got a folder"):
        config.load(tmp_path)


def test_a_file_whose_bytes_are_too_many_is_refused_whole_though_its_characters_are_few(tmp_path: Path) -> None:
    """What would be left of it after so many bytes is a config of one member."""
    file = tmp_path / "h.yaml"
    file.write_text(POOL + "# " + "\u00e9" * (1 << 19) + "\n" + POOL.replace("pool", "nonsense"), encoding="utf-8")
    with pytest.raises(ConfigError, match="longer than 1048576 bytes"):
        config.load(file)
