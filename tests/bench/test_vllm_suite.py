"""The runner of vLLM's own tests: which command stands for `vllm serve`, and what is counted."""

import json
from pathlib import Path

import pytest
import vllm_suite

MODEL = ["Org/Name", "--seed", "0"]


@pytest.mark.parametrize("words", [MODEL, ["--seed", "0", "--model", "Org/Name"]])
def test_a_model_stands_first_on_either_server(words: list[str]) -> None:
    theirs = vllm_suite.command_of("vllm", words, ["--seed"])
    assert theirs[:6] == ["-m", "vllm.entrypoints.openai.api_server", "--model", *MODEL]
    ours = vllm_suite.command_of("headgate", [*words, "--switch"], ["--switch"])
    assert ours[:7] == ["-P", "-m", "router.cli.main", "serve", *MODEL]
    assert "--switch" not in ours


def test_what_passes_on_vllms_server_is_counted_and_what_fails_on_ours_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = {"outcome": "passed", "why": ""}, {"outcome": "failed", "why": "409 is not 200"}
    for server, outcomes in (
        ("vllm", {"a": good, "b": good, "c": bad, "d": good}),
        ("headgate", {"a": good, "b": bad, "c": bad}),
    ):
        (tmp_path / server).mkdir()
        (tmp_path / server / "file.json").write_text(json.dumps(outcomes))
    vllm_suite._report(tmp_path)
    said = capsys.readouterr().out
    assert "only on vLLM's: b\n    409 is not 200" in said
    assert "of 2 tests that pass on vLLM's server 1 pass on Headgate: 50.0%" in said
