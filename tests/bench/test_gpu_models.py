"""The GPU run's models: real shapes, a tokenizer that gives text to every id, arguments that vLLM takes."""

import json

import drive
import models
import pytest

TINY = models.Shape(hidden=64, intermediate=128, layers=2, heads=4, tied=True, kv_heads=2, head_dim=16, vocabulary=600)


def test_shapes_are_those_of_the_real_models():
    assert models.SHAPES["small"].parameters() == pytest.approx(0.6e9, rel=0.02)
    assert models.SHAPES["large"].parameters() == pytest.approx(8.2e9, rel=0.02)


def test_a_written_model_has_a_config_and_a_tokenizer_for_every_id(tmp_path, root):
    folder = models.write(TINY, tmp_path / "tiny", root / "examples" / "pair" / "small")
    config = json.loads((folder / "config.json").read_text())
    assert (config["hidden_size"], config["vocab_size"], config["model_type"]) == (64, 600, "qwen3")
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    assert sorted(vocabulary.values()) == list(range(600))
    assert json.loads((folder / "tokenizer_config.json").read_text())["model_max_length"] == TINY.context


def test_memory_is_shared_and_too_little_is_refused():
    for target in ("small", "large"):
        args = drive.gpu_args(80.0, target)
        taken = args["small"]["gpu_memory_utilization"] + args["large"]["gpu_memory_utilization"]
        assert taken + args[target]["gpu_memory_utilization"] < 0.96
    with pytest.raises(SystemExit, match="24 GiB of GPU memory are too little for target 'large'"):
        drive.gpu_args(24.0, "large")
