"""Reads vLLM's argument names from its source files, which takes 0.25 s; importing vLLM takes many seconds."""

import ast
import importlib.util
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

#: Where the arguments are declared, in vLLM 0.25 to 0.33.
_FILES = ("engine/arg_utils.py", *(f"entrypoints/{room}/cli_args.py" for room in ("common", "launchers", "openai")))
_CLASSES = ("EngineArgs", "AsyncEngineArgs", "BaseFrontendArgs", "FrontendArgs")
#: Fewer: these are not the files that we think they are.
_LEAST = 100


def names() -> frozenset[str]:
    """Every name that an argument may have, some more perhaps; empty where they cannot be known without vLLM itself."""
    if entry_points(group="vllm.platform_plugins"):  # a platform may have arguments of its own
        return frozenset()
    known = {name for tree in _trees() for node in ast.walk(tree) for name in _declared(node)}
    return frozenset(known) if len(known) >= _LEAST else frozenset()


def _trees() -> Iterator[ast.Module]:
    """None where vLLM is not installed."""
    found = importlib.util.find_spec("vllm")
    for root in (found.submodule_search_locations if found else None) or ():
        for path in (Path(root, file) for file in _FILES):
            if path.is_file():
                yield ast.parse(path.read_text(encoding="utf-8"))


def _declared(node: ast.AST) -> Iterator[str]:
    """Fields of the argument classes, and the flags of every `add_argument`."""
    if isinstance(node, ast.ClassDef) and node.name in _CLASSES:
        yield from _fields(node)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "add_argument":
        for word in node.args:
            if isinstance(word, ast.Constant) and isinstance(word.value, str) and word.value.startswith("--"):
                yield word.value[2:].replace("-", "_")


def _fields(node: ast.ClassDef) -> Iterator[str]:
    for line in node.body:
        if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
            yield line.target.id
