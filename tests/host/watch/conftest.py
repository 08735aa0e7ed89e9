"""A described table, as a host has it once its engine runs."""

import numpy as np
import pytest

from router.host.watch.table import VARIABLE, WatchTable
from router.host.watch.vocabulary import first_ids

VOCABULARY = 300
STOP = 7


@pytest.fixture
def table(tmp_path, monkeypatch):
    path = str(tmp_path / "m.sock.watch")
    made = WatchTable.create(path, VOCABULARY, slots=6, firsts=20)
    made.describe(np.ones(VOCABULARY, np.uint8), first_ids(VOCABULARY, 20), stop=STOP, hidden=STOP)
    monkeypatch.setenv(VARIABLE, path)
    return made
