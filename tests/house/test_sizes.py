"""A file that has grown past the bound is split by noun."""

from pathlib import Path

import pytest

MOST_LINES = {".py": 400, ".pyx": 300, ".hpp": 400}
#: Tables that a script writes.
GENERATED = {"csrc/unicode_table.hpp"}


def too_long(root: Path) -> dict[str, int]:
    """Lines of each file of code (tests and benches are not bounded) that has more than `MOST_LINES`."""
    files = [path for room in ("router", "csrc", "kernels") for path in (root / room).rglob("*")]
    return {
        str(path.relative_to(root)): lines
        for path in files
        if path.suffix in MOST_LINES and str(path.relative_to(root)) not in GENERATED
        if (lines := path.read_text(encoding="utf-8").count("\n")) > MOST_LINES[path.suffix]
    }


def test_no_file_of_code_is_longer_than_its_bound(root: Path) -> None:
    assert too_long(root) == {}


@pytest.mark.parametrize(("name", "lines"), [("pool/thing.py", 401), ("native/thing.pyx", 301)])
def test_one_line_more_is_seen(tmp_path: Path, name: str, lines: int) -> None:
    path = tmp_path / "router" / name
    path.parent.mkdir(parents=True)
    path.write_text("\n" * lines, encoding="utf-8")
    assert too_long(tmp_path) == {f"router/{name}": lines}
    path.write_text("\n" * (lines - 1), encoding="utf-8")
    assert too_long(tmp_path) == {}
