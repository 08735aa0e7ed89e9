"""The house: a module imports only from lower floors or from its own room; lazy and type-only imports count, and so do
those of native modules (`import` and `cimport` of `.pyx` and `.pxd`) and of their types (`.pyi`)."""

import re
from pathlib import Path

import draw_imports
import pytest
from imports import FLOOR_OF, circles, graph, imported_names, may_import, modules, room_of, upward

#: Rooms of HTTP, of vLLM, of money-and-rules: what may be imported by whom, from outside the house.
ONLY_IN = {
    "httptools": {"frontend", "learn"},
    "python_multipart": {"frontend"},
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


def violations(path: Path, router: Path) -> list[str]:
    room = room_of(path, router)
    if room == "__init__":
        return []
    package = ".".join(["router", *path.relative_to(router).parts[:-1]])
    found = []
    for name in sorted(imported_names(path, package)):
        top, _, rest = name.partition(".")
        if top != "router":
            if top in ONLY_IN and room not in ONLY_IN[top]:
                found.append(f"{room} may not import {top}")
            continue
        target = rest.split(".")[0]
        if target in ("", room):
            continue
        if target not in FLOOR_OF:
            found.append(f"{name}: no such room")
        elif not may_import(room, target):
            found.append(f"{room} (floor {FLOOR_OF[room]}) may not import {target} (floor {FLOOR_OF[target]})")
    return list(dict.fromkeys(found))


def test_every_room_has_a_floor(root: Path) -> None:
    rooms = {room_of(path, root / "router") for path in modules(root)} - {"__init__"}
    assert rooms <= FLOOR_OF.keys()


def test_imports_go_down(root: Path) -> None:
    broken = {str(path): violations(path, root / "router") for path in modules(root)}
    assert {path: why for path, why in broken.items() if why} == {}


def test_no_import_runs_up_and_no_modules_import_one_another(root: Path) -> None:
    arrows = graph(root)
    assert upward(arrows) == []
    assert circles(arrows) == []


def test_the_picture_of_the_imports_has_a_line_down_for_each(root: Path) -> None:
    arrows = graph(root)
    picture = draw_imports.draw(arrows)
    assert picture.count("<path ") == sum(map(len, arrows.values()))
    assert 'class="up"' not in picture


def test_types_of_native_modules_say_what_they_take_and_return(root: Path) -> None:
    stubs = {path.name: path.read_text(encoding="utf-8") for path in modules(root) if path.suffix == ".pyi"}
    assert {name for name, text in stubs.items() if re.search(r"import .*\bAny\b", text)} == set()


def test_policy_is_pure(root: Path) -> None:
    for path in (root / "router" / "policy").glob("*.py"):
        tops = {name.split(".")[0] for name in imported_names(path, "router.policy")}
        assert not tops & IMPURE, path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("import router.frontend", ["pool (floor 2) may not import frontend (floor 4)"]),
        ("def f():\n    from router.heads.methods import mf", ["pool (floor 2) may not import heads (floor 2)"]),
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
        ("from router.frontend import listener", ["native (floor 1) may not import frontend (floor 4)"]),
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


CIRCLE = {
    "pool/a.py": "def f():\n    from router.pool import b",
    "pool/b.pyx": "from router.pool.c cimport C",
    "pool/c.pxd": "from router.pool.a cimport (\n  A,\n)",
    "cli/main.py": 'NAMES = ("serve",)\nmodule = import_module(f"router.cli.{name}")',
    "cli/serve.py": "from router.cli.main import main",
    "types.py": "from router.pool.a import f",
}


def test_the_guard_sees_circles_by_lazy_native_and_named_imports_and_what_runs_up(tmp_path: Path) -> None:
    for name, text in CIRCLE.items():
        module = tmp_path / "router" / name
        module.parent.mkdir(parents=True, exist_ok=True)
        module.write_text(text, encoding="utf-8")
    arrows = graph(tmp_path)
    assert circles(arrows) == [
        ["router.cli.main", "router.cli.serve"],
        ["router.pool.a", "router.pool.b", "router.pool.c"],
    ]
    assert upward(arrows) == [("router.types", "router.pool.a")]
    picture = draw_imports.draw(arrows)
    assert (picture.count("<path "), picture.count('class="up"')) == (6, 3)
