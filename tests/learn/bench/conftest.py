"""One scripted chat server for the tests of this folder."""

from collections.abc import Iterator

import pytest

from tests.learn.bench.scripted import Scripted, running


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    with running() as made:
        yield made
