"""The imports of `router`, read from its sources: lazy and type-only ones count, and so do those of native modules
(`import` and `cimport` of `.pyx` and `.pxd`), of their types (`.pyi`) and of `import_module`. Nothing is imported.
"""

import ast
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

FLOORS: tuple[frozenset[str], ...] = (
    frozenset({"types", "steps", "watched", "config", "errors", "files", "urls", "version", "checkpoints"}),
    frozenset({"native", "kernels", "ipc", "observe", "dialects", "artefacts", "signals"}),
    frozenset({"gate", "cache", "features", "heads", "policy", "pool", "verify"}),
    frozenset({"pipeline", "host"}),
    frozenset({"frontend", "learn"}),
    frozenset({"cli", "cluster"}),
)
FLOOR_OF = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
#: Who may import whom on one floor, besides the words.
BESIDE: frozenset[tuple[str, str]] = frozenset(
    {("dialects", "native"), ("dialects", "observe"), ("artefacts", "native")}
)
#: One import of a Cython module, which `ast` cannot read; parentheses may follow lines further.
CYTHON_IMPORT = re.compile(
    r"^[ \t]*(?:from[ \t]+([\w.]+)[ \t]+c?import[ \t]+(\([^)]*\)|[^\n]+)|c?import[ \t]+([^\n(]+))", re.MULTILINE
)

Graph = Mapping[str, frozenset[str]]


def room_of(path: Path, router: Path) -> str:
    return path.relative_to(router).parts[0].split(".")[0]


def modules(root: Path) -> list[Path]:
    """The source files; a native module has up to three."""
    return sorted(path for path in (root / "router").rglob("*") if path.suffix in (".py", ".pyi", ".pyx", ".pxd"))


def python_imports(path: Path) -> ast.Module:
    """What `ast` is to read: all of a Python module, the imports of a Cython one."""
    text = path.read_text(encoding="utf-8")
    if path.suffix in (".py", ".pyi"):
        return ast.parse(text, str(path))
    lines = []
    for base, names, plain in CYTHON_IMPORT.findall(re.sub(r"#[^\n]*|\\\n", "", text)):
        lines.append(f"from {base} import {names}" if base else f"import {plain}")
    return ast.parse("\n".join(lines), str(path))


def imported_names(path: Path, package: str) -> set[str]:
    """Absolute names of all that `path`, a module of `package`, imports, at any depth of nesting: `a.b.c` of
    `from a.b import c`, be `c` a module or not. Of `import_module(f"a.b.{name}")`: `a.b.c` for each text `"c"` of the
    file."""
    tree = python_imports(path)
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base]).rstrip(".")
            names |= {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "import_module":
            start = node.args[0].values[0] if isinstance(node.args[0], ast.JoinedStr) else None
            if isinstance(start, ast.Constant):
                names |= {f"{start.value}{text}" for text in _texts(tree)}
    return names


def _texts(tree: ast.Module) -> set[str]:
    return {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}


def graph(root: Path) -> Graph:
    """Of each module of `router` by name, which others it imports. That a module also imports the packages that it
    stands in is left out."""
    paths: dict[str, list[Path]] = {}
    for path in modules(root):
        name = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        paths.setdefault(name, []).append(path)
    arrows: dict[str, set[str]] = {name: set() for name in paths}
    for name, files in paths.items():
        for path in files:
            for imported in imported_names(path, ".".join(path.relative_to(root).parts[:-1])):
                arrows[name] |= _module_named(imported, paths.keys()) - {name}
    return {name: frozenset(targets) for name, targets in arrows.items()}


def _module_named(imported: str, known: AbstractSet[str]) -> set[str]:
    """`a.b.c` where it is a module, else `a.b`, which has something of that name. `router` itself is left out."""
    name = imported if imported in known else imported.rpartition(".")[0]
    return {name} & (known - {"router"})


def circles(arrows: Graph) -> list[list[str]]:
    """The modules that import one another, directly or by others; sorted. (Tarjan's strongly connected components.)"""
    number: dict[str, int] = {}
    lowest: dict[str, int] = {}
    open: list[str] = []
    found = []

    def visit(name: str) -> None:
        number[name] = lowest[name] = len(number)
        open.append(name)
        for target in sorted(arrows[name]):
            if target not in number:
                visit(target)
                lowest[name] = min(lowest[name], lowest[target])
            elif target in open:
                lowest[name] = min(lowest[name], number[target])
        if lowest[name] == number[name]:
            members = open[open.index(name) :]
            del open[open.index(name) :]
            if len(members) > 1:
                found.append(sorted(members))

    for name in sorted(arrows):
        if name not in number:
            visit(name)
    return sorted(found)


def room(module: str) -> str:
    """`heads` of `router.heads.methods.mf`; empty for `router` itself."""
    return module.partition(".")[2].partition(".")[0]


def may_import(one: str, other: str) -> bool:
    """Rooms."""
    own, below = FLOOR_OF[one], FLOOR_OF[other]
    return one == other or below < own or below == own == 0 or (one, other) in BESIDE


def upward(arrows: Graph) -> list[tuple[str, str]]:
    """The imports that run up, or from one room to another on the same floor; the lowest floor's rooms may do that.
    `router` itself, which only names what it exports, stands above all."""
    return sorted(
        (name, target)
        for name, targets in arrows.items()
        for target in targets
        if name != "router" and not may_import(room(name), room(target))
    )
