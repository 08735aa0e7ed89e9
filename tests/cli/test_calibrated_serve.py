"""From an ask to traffic: calibrate, serve, reload, and count which member answered."""

import json
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from router import config as configuration
from router import heads
from router.cli.main import main
from router.heads import read, write
from router.pipeline.decider import Decider
from tests.conftest import wait_until

WORDS = ["what", "is", "sum", "riddle", "poem", "law", "why", "prove"]


@pytest.fixture
def prompts(tmp_path: Path) -> list[str]:
    rng = random.Random(0)
    lines = [" ".join(rng.choices(WORDS, k=rng.randint(1, 9))) for _ in range(120)]
    (tmp_path / "prompts.txt").write_text("\n".join(lines))
    return lines


@pytest.fixture
def curved(checkpoint: Path, tmp_path: Path) -> Path:
    """The small checkpoint with vectors that tell words apart, calibrated by bent curves."""
    small = read(checkpoint)
    draw = np.random.default_rng(5)
    x = np.tile(np.linspace(-3, 3, 7, dtype=np.float32), (2, 1))
    arrays = {
        **small.arrays,
        "table": draw.normal(0, 0.5, small.arrays["table"].shape).astype(np.float16),
        "vectors": draw.normal(0, 0.5, (2, 16)).astype(np.float32),
        "calibration.x": x,
        "calibration.y": np.sinh(x * np.array([[0.5], [0.9]], np.float32)),
    }
    path = tmp_path / "curved.safetensors"
    write(path, msgspec.structs.replace(small, arrays=arrays))
    return path


def test_traffic_is_split_as_asked(
    serve: Any, config: Callable[..., Path], curved: Path, prompts: list[str], tmp_path: Path, capsys: Any
) -> None:
    """By the threshold, as it alone does not move with what the engines teach of their costs."""
    path = config(routing={"checkpoint": str(curved)})
    server = serve(path)
    on = ["--on", str(tmp_path / "prompts.txt"), "--threshold", "--json"]
    assert main(["calibrate", str(path), "--large-share", "30%", *on]) == 0
    found = json.loads(capsys.readouterr().out)
    server.signal(signal.SIGHUP)
    wait_for(server, found["value"])
    decider = Decider(configuration.load(path))
    answered = [ask(server, prompt) for prompt in prompts]
    assert answered == [decider.decide(prompt).model for prompt in prompts]
    assert answered.count(found["members"][found["strong"]]) == 36


def test_curves_are_served(serve: Any, config: Callable[..., Path], curved: Path, prompts: list[str]) -> None:
    path = config(routing={"checkpoint": str(curved), "threshold": 0.5})
    head = heads.load(curved, [heads.Claim(name="llama-3.1-8b-instruct"), heads.Claim(name="large", strength=0.6)])
    offline = head.score_many(prompts[:10])
    server = serve(path)
    for prompt, quality in zip(prompts[:10], offline, strict=True):
        with server.post(body(prompt), {"x-headgate-debug": "true"}) as response:
            terms = json.loads(response.headers["x-headgate-terms"])
        assert [term["quality"] for term in terms] == pytest.approx(quality.tolist(), abs=1e-4)


def body(prompt: str) -> dict[str, Any]:
    return {"model": "auto", "messages": [{"role": "user", "content": prompt}]}


def ask(server: Any, prompt: str) -> str:
    with server.post(body(prompt)) as response:
        return str(response.headers["x-headgate-model"])


def wait_for(server: Any, threshold: float) -> None:
    wait_until(lambda: ask_threshold(server) == pytest.approx(threshold, abs=1e-4), lambda: ask_threshold(server))


def ask_threshold(server: Any) -> float:
    with server.post(body("what is")) as response:
        return float(response.headers.get("x-headgate-threshold") or -1)
