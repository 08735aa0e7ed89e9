"""One number put into a YAML text: nothing else moves, and what cannot be edited safely is left alone."""

import os
import stat
from pathlib import Path

import pytest
import yaml

from router.cli.config_edit import edited, put
from router.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a: 1\nrouting:\n  price: 100 # dear\n", "a: 1\nrouting:\n  price: 7.5 # dear\n"),
        ("routing:\n    checkpoint: x # c\n\nb: 2\n", "routing:\n    price: 7.5\n    checkpoint: x # c\n\nb: 2\n"),
        ("routing: # r\n  # first\n  retry: true\n", "routing: # r\n  # first\n  price: 7.5\n  retry: true\n"),
        ("routing: {}\n", "routing: {price: 7.5}\n"),
        ("routing: {retry: true}\n", "routing: {price: 7.5, retry: true}\n"),
        ("routing: {retry: true, price: 1e3}", "routing: {retry: true, price: 7.5}"),
        ("routing:\n  price:\n  retry: true\n", "routing:\n  price: 7.5\n  retry: true\n"),
        ("routing:\n  price: null\n", "routing:\n  price: 7.5\n"),
        ("routing:\n  'price': \"100\"\n", "routing:\n  'price': 7.5\n"),
        ("a: 1 # no end of line", "a: 1 # no end of line\n\nrouting:\n  price: 7.5\n"),
        ("a: 1\r\nrouting:\r\n  retry: true\r\n", "a: 1\r\nrouting:\r\n  price: 7.5\r\n  retry: true\r\n"),
        ("a: ü # ä\nrouting:\n  price: 1\n", "a: ü # ä\nrouting:\n  price: 7.5\n"),
        ("\ufeffrouting:\n  price: 1\n", "\ufeffrouting:\n  price: 7.5\n"),
        ("x: {price: 5}\nrouting:\n  price: 1\n", "x: {price: 5}\nrouting:\n  price: 7.5\n"),
    ],
)
def test_only_the_number_moves(text: str, expected: str) -> None:
    assert edited(text, "routing", "price", 7.5) == expected


@pytest.mark.parametrize("number", [100.0, 0.0, 1e-7, 1.5e22, 0.30000000000000004, 123456.789])
def test_reads_back_as_the_same_number(number: float) -> None:
    got = yaml.safe_load(edited("routing:\n  price: 1\n", "routing", "price", number))["routing"]["price"]
    assert isinstance(got, int | float)
    assert got == number


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("routing:\n  price: ${PRICE:-3}\n", "`routing.price` is ${PRICE:-3}: set that variable to 7.5 instead"),
        ("x: &p 3\nrouting:\n  price: *p\n", "set `price: 7.5` under `routing` by hand"),
        ("routing:\n  price: &p 3\nx: *p\n", "set `price: 7.5` under `routing` by hand"),
        ("x: &r {price: 3}\nrouting: *r\n", "set `price: 7.5` under `routing` by hand"),
        ("{a: 1}\n", "set `price: 7.5` under `routing` by hand"),
    ],
)
def test_refuses_what_it_would_damage(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        edited(text, "routing", "price", 7.5)
    assert message in str(error.value)


def test_the_file_is_replaced_at_once_with_its_mode_and_through_links(tmp_path: Path) -> None:
    path = tmp_path / "real.yaml"
    path.write_bytes(b"routing:\r\n  price: 1\r\n")
    path.chmod(0o640)
    link = tmp_path / "link.yaml"
    link.symlink_to(path)
    put(link, "routing", "price", 2.5)
    assert link.is_symlink()
    assert path.read_bytes() == b"routing:\r\n  price: 2.5\r\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    assert sorted(os.listdir(tmp_path)) == ["link.yaml", "real.yaml"]


def test_a_refused_file_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("x: &r {price: 3}\nrouting: *r\n")
    with pytest.raises(ConfigError, match=r"c.yaml: cannot be edited safely"):
        put(path, "routing", "price", 2.5)
    assert path.read_text() == "x: &r {price: 3}\nrouting: *r\n"
    assert os.listdir(tmp_path) == ["c.yaml"]


def test_a_failing_disk_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("routing:\n  price: 1\n")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ConfigError, match=r"c.yaml: cannot be written: No space left on device"):
        put(path, "routing", "price", 2.5)
    assert path.read_text() == "routing:\n  price: 1\n"
    assert os.listdir(tmp_path) == ["c.yaml"]


def test_a_text_that_looks_like_a_date_is_edited_beside() -> None:
    text = "pool: [{name: 2024-99-99, kind: openai, url: 'http://h'}]\nrouting: {price: 1}\n"
    assert edited(text, "routing", "price", 2.5) == text.replace("price: 1", "price: 2.5")
