"""A head that takes seconds to score: deadlines are kept meanwhile, and the end of the server waits for no score."""

import signal
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from router.artefacts.artefact import Artefact, Metadata, ModelRecord, write

HEAD = """
import time
import numpy as np
from router.heads.base import Placement
from router.native.spec import TurnWeights
from router.types import Scores

class Head:
    turns = TurnWeights()
    slow = True

    def __init__(self, claims):
        self.placements = tuple(Placement(name=claim.name, by="default") for claim in claims)

    def score(self, segments):
        if "SLOW" in segments[0][0]:
            time.sleep(600)
        return Scores(quality=(0.5,) * len(self.placements), prompt_tokens=10)

    def score_many(self, texts):
        return np.full((len(texts), len(self.placements)), 0.5, np.float32)

def make(artefact, claims):
    return Head(claims)
"""


@pytest.fixture
def lazy(tmp_path: Path, root: Path) -> dict[str, str]:
    """The environment of a server that has the head `lazy`, and its checkpoint beside it."""
    about = tmp_path / "lazy-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: lazy\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[headgate.heads]\nlazy = lazy_head:make\n")
    (tmp_path / "lazy_head.py").write_text(HEAD)
    meta = Metadata(format=1, models=(ModelRecord(name="x", strength=0.5),), router="lazy")
    write(tmp_path / "lazy.safetensors", Artefact(meta=meta, arrays={"a": np.ones(4, np.float32)}))
    return {"PYTHONPATH": f"{root}:{tmp_path}"}


def test_a_deadline_is_kept_and_the_end_not_delayed(
    serve: Any, config: Callable[..., Path], lazy: dict[str, str], tmp_path: Path
) -> None:
    checkpoint = {"checkpoint": str(tmp_path / "lazy.safetensors")}
    limits = {"port": 0, "admin_port": 0, "limits": {"drain_s": 1}}
    server = serve(config(routing=checkpoint, server=limits), env=lazy)
    slow = {"model": "auto", "messages": [{"role": "user", "content": "SLOW"}]}
    begun = time.monotonic()
    with pytest.raises(urllib.error.HTTPError, match="504"):
        server.post(slow, {"x-headgate-deadline": "0.5"}, timeout=60)
    assert time.monotonic() - begun < 60
    server.signal(signal.SIGTERM)
    code, error = server.end()
    assert code == 0
    assert "Traceback" not in error
    assert time.monotonic() - begun < 300  # the score would take 600
    server.wait_childless()
