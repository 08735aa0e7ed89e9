"""`gpu: {mps: ...}` in YAML's spellings, and `mps_threads` of a member."""

import pytest

from router import config
from router.errors import ConfigError

PAIR = "pool: [{name: a, model: x%s}, {name: b, model: y}]\n"


@pytest.mark.parametrize(
    ("written", "on"),
    [("on", True), ('"on"', True), ("true", True), ("yes", True), ("off", False), ('"off"', False), ("false", False)],
)
def test_it_is_on_or_off_as_text_or_as_yaml_reads_it(written: str, on: bool) -> None:
    assert config.parse(f"gpu: {{mps: {written}}}\n" + PAIR % "").gpu.mps_on is on


def test_it_is_off_where_nothing_is_said() -> None:
    assert not config.parse(PAIR % "").gpu.mps_on


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("gpu: {mps: maybe}\n" + PAIR % "", "expected one of on, off, got 'maybe' - at `$.gpu.mps`"),
        ("gpu: {mps: [on]}\n" + PAIR % "", "expected one of on, off, got [True] - at `$.gpu.mps`"),
        ("gpu: {msp: on}\n" + PAIR % "", "unknown key 'msp' - at `$.gpu`; did you mean 'mps'?"),
        (PAIR % ", mps_threads: 40", "set `gpu: {mps: on}` too - at `$.pool[0].mps_threads`"),
        (
            "gpu: {mps: on}\n" + PAIR % ", mps_threads: 0",
            "expected 1 to 100 percent, got 0 - at `$.pool[0].mps_threads`",
        ),
        (
            "gpu: {mps: on}\n" + PAIR % ", mps_threads: 101",
            "expected 1 to 100 percent, got 101 - at `$.pool[0].mps_threads`",
        ),
        (
            "gpu: {mps: on}\n" + PAIR % ", mps_threads: 40, env: {CUDA_MPS_ACTIVE_THREAD_PERCENTAGE: '50'}",
            "give `mps_threads` or CUDA_MPS_ACTIVE_THREAD_PERCENTAGE in `env`, not both - at `$.pool[0].mps_threads`",
        ),
        (
            "gpu: {mps: on}\npool: [{name: a, model: x}, {name: f, kind: openai, url: 'http://x', mps_threads: 40}]",
            "only an engine has this; this member is one of `kind: openai` - at `$.pool[1].mps_threads`",
        ),
    ],
)
def test_refusals_name_key_and_expectation(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.parse(text, source="headgate.yaml")
    assert message in str(caught.value)
