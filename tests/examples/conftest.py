"""The scripts of `examples/pair` and `examples/zoo` import one another by plain names; so do these tests.

Both folders have a `train.py` and an `outcomes.py`: the plain names are the pair's, the zoo's come as fixtures.
"""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
PAIR, ZOO = EXAMPLES / "pair", EXAMPLES / "zoo"
sys.path[:0] = [str(PAIR), str(ZOO)]  # the pair first: `train` and `outcomes` are its own


@pytest.fixture(scope="session")
def pair() -> Path:
    return PAIR


@pytest.fixture(scope="session")
def zoo() -> Path:
    return ZOO


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Of torch: more of them on a busy machine wait for one another."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def zoo_script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"zoo_{name}", ZOO / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def training() -> ModuleType:
    return zoo_script("train")


@pytest.fixture(scope="session")
def labelling() -> ModuleType:
    return zoo_script("outcomes")


@pytest.fixture(scope="session")
def asking() -> ModuleType:
    return zoo_script("workload")
