"""What documents name is there: files, headings, tests."""

import re
from pathlib import Path

import pytest

_FENCED = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.*)$", re.MULTILINE)
_FILE = re.compile(r"`((?:router|tests|bench|csrc|examples|kernels)/[\w./-]+\.\w+)(?:::(test_\w+))?")


def anchor_of(heading: str) -> str:
    """As GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


def documents(root: Path) -> list[Path]:
    return [root / "README.md", root / "CONTRIBUTING.md", *sorted((root / "docs").rglob("*.md"))]


def missing(document: Path, root: Path) -> list[str]:
    """The links of a document that lead nowhere, and the files and tests it names that are not there."""
    text = _FENCED.sub("", document.read_text(encoding="utf-8"))
    links = [link for link in _LINK.findall(text) if "://" not in link]
    found = [link for link in links if not leads_somewhere(document, link)]
    for name, test in _FILE.findall(text):
        path = root / name
        if not path.is_file() or (test and f"def {test}(" not in path.read_text(encoding="utf-8")):
            found.append(f"{name}::{test}" if test else name)
    return found


def leads_somewhere(document: Path, link: str) -> bool:
    name, _, anchor = link.partition("#")
    target = document.parent / name if name else document
    if not target.exists():
        return False
    headings = _HEADING.findall(_FENCED.sub("", target.read_text(encoding="utf-8"))) if anchor else []
    return not anchor or anchor in {anchor_of(heading) for heading in headings}


def test_what_documents_link_to_and_name_is_there(root: Path) -> None:
    gone = {document.name: missing(document, root) for document in documents(root)}
    assert {name: what for name, what in gone.items() if what} == {}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[a](other.md) [b](other.md#the-first-one) [c](#here)\n# Here", []),
        ("[a](none.md)", ["none.md"]),
        ("[a](other.md#second)", ["other.md#second"]),
        ("`tests/test_a.py`, `tests/test_a.py::test_x`", []),
        ("`tests/test_b.py`", ["tests/test_b.py"]),
        ("`tests/test_a.py::test_y`", ["tests/test_a.py::test_y"]),
    ],
)
def test_the_guard_itself_sees(tmp_path: Path, text: str, expected: list[str]) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_a.py").write_text("def test_x():\n    pass\n", encoding="utf-8")
    (tmp_path / "other.md").write_text("## The `first` one\n", encoding="utf-8")
    document = tmp_path / "one.md"
    document.write_text(text, encoding="utf-8")
    assert missing(document, tmp_path) == expected


def test_decisions_have_numbers_of_their_own_without_a_gap_and_each_is_linked_from_a_document(root: Path) -> None:
    names = sorted(path.name for path in (root / "docs" / "decisions").glob("*.md"))
    assert [int(name.partition("-")[0]) for name in names] == list(range(1, len(names) + 1))
    texts = [document.read_text(encoding="utf-8") for document in documents(root)]
    assert [name for name in names if not any(f"{name})" in text for text in texts)] == []
