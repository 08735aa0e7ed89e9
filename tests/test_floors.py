"""The house: a module imports only from lower floors or from its own room; lazy and type-only imports count, and so do
those of native modules (`import` and `cimport` of `.pyx` and `.pxd`) and of their types (`.pyi`)."""

import ast
import re
from pathlib import Path

import pytest

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"types", "config", "errors", "files", "urls", "version", "checkpoints"}),
    frozenset({"native", "kernels", "ipc", "observe"}),
    frozenset({"gate", "features", "heads", "policy", "pool", "dialects"}),
    frozenset({"pipeline", "host"}),
    frozenset({"frontend", "learn"}),
    frozenset({"cli", "cluster"}),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
#: Rooms of HTTP, of vLLM, of money-and-rules: what may be imported by whom, from outside the house.
ONLY_IN = {
    "httptools": {"frontend"},
    "vllm": {"host"},
    "transformers": {"host", "learn", "heads"},
    "torch": {"host", "learn", "kernels", "heads"},
    "pyarrow": {"learn"},
    "sklearn": {"learn"},
    "scipy": {"learn"},
    "matplotlib": {"learn"},
    "usearch": {"heads"},
}
IMPURE = {
    "asyncio",
    "datetime",
    "io",
    "os",
    "pathlib",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
}


def room_of(path: Path, router: Path) -> str:
    return path.relative_to(router).parts[0].split(".")[0]


#: One import of a Cython module, which `ast` cannot read; parentheses may follow lines further.
CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+c?import[ \t]+(\([^)]*\)|[^\n]+)|c?import[ \t]+([^\n(]+))", re.MULTILINE
)


def python_imports(path: Path) -> ast.Module:
    """What `ast` is to read: all of a Python module, the imports of a Cython one."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".py", ".pyi"):
        return ast.parse(text, str(path))
    lines = []
    for base, names, plain in CYTHON_IMPORT.findall(re.sub(r"#[^\n]*|\\\n", "", text)):
        lines.append(f"from {base} import {names}" if base else f"import {plain}")
    return ast.parse("\n".join(lines), str(path))


def imported_modules(path: Path, package: str) -> set[str]:
    """Absolute names of everything `path` imports, at any depth of nesting."""
    names: set[str] = set()
    for node in ast.walk(python_imports(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            names |= {f"{base}.{alias.name}" for alias in node.names} if base == "router" else {base}
    return names


def modules(root: Path) -> list[Path]:
    return sorted(path for path in (root / "router").rglob("*") if path.suffix in (".py", ".pyi", ".pyx", ".pxd"))


def violations(path: Path, router: Path) -> list[str]:
    room = room_of(path, router)
    if room == "__init__":
        return []
    package = ".".join(["router", *path.relative_to(router).parts[:-1]])
    found = []
    for name in sorted(imported_modules(path, package)):
        top, _, rest = name.partition(".")
        if top != "router":
            if top in ONLY_IN and room not in ONLY_IN[top]:
                found.append(f"{room} may not import {top}")
            continue
        target = rest.split(".")[0]
        if target in ("", room):
            continue
        own, other = FLOOR_OF[room], FLOOR_OF.get(target)
        if other is None:
            found.append(f"{name}: no such room")
        elif other > own or (other == own and own > 0):
            found.append(f"{room} (floor {own}) may not import {target} (floor {other})")
    return found


def test_every_room_has_a_floor(root: Path) -> None:
    rooms = {room_of(path, root / "router") for path in modules(root)} - {"__init__"}
    assert rooms <= FLOOR_OF.keys()


def test_imports_go_down(root: Path) -> None:
    broken = {str(path): violations(path, root / "router") for path in modules(root)}
    assert {path: why for path, why in broken.items() if why} == {}


def test_policy_is_pure(root: Path) -> None:
    for path in (root / "router" / "policy").glob("*.py"):
        tops = {name.split(".")[0] for name in imported_modules(path, "router.policy")}
        assert not tops & IMPURE, path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import router.frontend", ["pool (floor 2) may not import frontend (floor 4)"]),
        ("def f():\n    from router.heads import mf", ["pool (floor 2) may not import heads (floor 2)"]),
        ("from ..pipeline import run", ["pool (floor 2) may not import pipeline (floor 3)"]),
        ("import torch", ["pool may not import torch"]),
        ("from router.ipc import channel\nfrom . import base", []),
    ],
)
def test_the_guard_itself_sees(tmp_path: Path, text: str, expected: list[str]) -> None:
    module = tmp_path / "router" / "pool" / "thing.py"
    module.parent.mkdir(parents=True)
    module.write_text(text, encoding="utf-8")
    assert violations(module, tmp_path / "router") == expected


@pytest.mark.parametrize("ending", ["pyx", "pxd", "pyi"])
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("from router.frontend import door", ["native (floor 1) may not import frontend (floor 4)"]),
        ("def f():\n    import router.pipeline as p  # why", ["native (floor 1) may not import pipeline (floor 3)"]),
        ("from router.policy import (\n  a,\n  b,\n)", ["native (floor 1) may not import policy (floor 2)"]),
        ("from router.errors import RouterError\nfrom router.native.lane import Lane", []),
    ],
)
def test_the_guard_reads_native_modules_too(tmp_path: Path, ending: str, text: str, expected: list[str]) -> None:
    module = tmp_path / "router" / "native" / f"thing.{ending}"
    module.parent.mkdir(parents=True)
    module.write_text(text if ending == "pyi" else text.replace("import", "cimport"), encoding="utf-8")
    assert violations(module, tmp_path / "router") == expected
