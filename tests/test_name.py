"""The distribution is called `headgate-router`, the command `headgate`, the package `router`; every hint says so."""

import re
import tomllib
from pathlib import Path

import pytest

PLACES = ("router", "docs", "examples", "requirements", "bench", "tests", "kernels")
FILES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "Makefile", "pyproject.toml", "setup.py")
KINDS = (".py", ".md", ".toml", ".txt", ".yaml")
#: `'headgate-router[knn]'`, `'.[vllm]'`, also within a longer requirement.
EXTRAS = re.compile(r"""(?:(?<=['"`])\.|(?<![\w.\-])headgate[a-z0-9-]*)\\?\[([a-z][a-z0-9-]*(?:,[a-z0-9-]+)*)\\?\]""")
PLAIN = re.compile(r"""pip3? install (?:-{1,2}\S+ )*['"]?(headgate[\w-]*)""")


def project(root: Path) -> dict[str, object]:
    found: dict[str, object] = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    return found


def texts(root: Path) -> dict[str, str]:
    files = [path for place in PLACES for path in (root / place).rglob("*") if path.suffix in KINDS]
    own = Path(__file__).resolve()
    return {
        str(path.relative_to(root)): path.read_text(encoding="utf-8")
        for path in [*files, *(root / name for name in FILES)]
        if path.is_file() and path.resolve() != own
    }


def test_every_hint_names_the_distribution_and_an_extra_of_it(root: Path) -> None:
    name, extras = project(root)["name"], set(project(root)["optional-dependencies"])  # type: ignore[call-overload]
    assert name == "headgate-router"
    found, wrong = 0, []
    for path, text in texts(root).items():
        for match in EXTRAS.finditer(text):
            found += 1
            if match[0].partition("[")[0].rstrip("\\") not in (".", name) or not set(match[1].split(",")) <= extras:
                wrong.append((path, match[0]))
        wrong += [(path, match[0]) for match in PLAIN.finditer(text) if match[1] != name]
    assert wrong == []
    assert found > 10


def test_command_and_package_keep_their_names(root: Path) -> None:
    assert project(root)["scripts"] == {"headgate": "router.cli.main:main"}


@pytest.mark.parametrize(
    "line", ["headgate-router==0.1.0", "headgate==0.1.0", "headgate-router @ file:///x", "pip==25"]
)
def test_the_lock_leaves_the_distribution_itself_out(root: Path, line: str) -> None:
    (pattern,) = re.findall(r"grep -v -i -E '([^']+)'", (root / "Makefile").read_text())
    assert re.match(pattern, line)
    assert not re.match(pattern, "headgate-by-length==0.1")
