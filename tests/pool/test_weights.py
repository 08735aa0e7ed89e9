"""What a model's files say of the memory that its weights take, at the least."""

import json
from pathlib import Path
from typing import Any

import pytest

from router.config import Member
from router.pool.weights import weigh


def model(folder: Path, card: object = None, **files: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in files.items():
        (folder / name.replace("__", ".")).write_bytes(bytes(size))
    if card is not None:
        (folder / "config.json").write_text(card if isinstance(card, str) else json.dumps(card))
    return folder


@pytest.mark.parametrize(
    ("card", "args", "expected"),
    [
        ({"torch_dtype": "bfloat16"}, {}, 3000),
        ({"dtype": "float32"}, {}, 1500),
        ({"torch_dtype": "float32"}, {"dtype": "float32"}, 3000),
        ({"torch_dtype": "float16"}, {"dtype": "float"}, 6000),
        ({"torch_dtype": "float16"}, {"quantization": "fp8"}, 750),
        ({"torch_dtype": "float16", "quantization_config": {"bits": 4}}, {"quantization": "awq"}, 3000),
        ({}, {"dtype": "half"}, 3000),
        ({"torch_dtype": ["float32"]}, {}, 3000),
        ("no JSON", {}, 3000),
        ("[]", {}, 3000),
        (None, {}, 3000),
    ],
)
def test_weights_are_counted_as_stored_and_cast_to_what_vllm_casts_them_to(
    tmp_path: Path, card: Any, args: dict[str, Any], expected: int
) -> None:
    folder = model(tmp_path, card, a__safetensors=1000, b__safetensors=2000, consolidated__safetensors=9, c__bin=50)
    assert weigh(Member(name="a", model=str(folder), engine_args=args), None).whole == expected


def test_weights_that_a_folder_holds_in_several_types_are_counted_once(tmp_path: Path) -> None:
    whole = model(tmp_path / "whole", a__safetensors=7, model__fp16__safetensors=50)
    (whole / "model.safetensors").write_bytes(bytes(100))
    assert weigh(Member(name="a", model=str(whole)), None).whole == 100
    parts = model(tmp_path / "parts", one__safetensors=30, two__safetensors=40, other__safetensors=500)
    index = {"weight_map": {"x": "one.safetensors", "y": "two.safetensors", "z": "one.safetensors"}}
    (parts / "model.safetensors.index.json").write_text(json.dumps(index))
    assert weigh(Member(name="a", model=str(parts)), None).whole == 70
    (parts / "two.safetensors").unlink()  # not downloaded yet
    assert weigh(Member(name="a", model=str(parts)), None).whole == 0
    many = model(tmp_path / "many", q4__gguf=40, q8__gguf=80)
    assert weigh(Member(name="a", model=str(many)), None).whole == 40


def test_one_file_is_counted_whole(tmp_path: Path) -> None:
    model(tmp_path, a__gguf=700)
    assert weigh(Member(name="a", model=str(tmp_path / "a.gguf")), None).whole == 700


def test_a_model_of_the_hub_is_counted_by_its_downloaded_snapshot(tmp_path: Path) -> None:
    at = tmp_path / "models--org--a"
    model(at / "snapshots" / "1234", {"torch_dtype": "bfloat16"}, a__safetensors=64)
    member = Member(name="a", model="org/a")
    assert weigh(member, tmp_path).whole == 0
    (at / "refs").mkdir()
    (at / "refs" / "main").write_text("1234\n")
    assert weigh(member, tmp_path).whole == 64
    assert weigh(member, None).whole == 0


@pytest.mark.parametrize("name", ["org/never-downloaded", "x" * 5000, "a\0b", "s3://bucket/model"])
def test_nothing_is_known_of_a_model_that_is_not_here(tmp_path: Path, name: str) -> None:
    assert weigh(Member(name="a", model=name), tmp_path).whole == 0


@pytest.mark.parametrize("name", ["x\\u0000y", "\\ud800", "x" * 5_000, "../../missing"])
def test_nothing_is_known_of_weights_whose_index_names_no_file(tmp_path: Path, name: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(f'{{"weight_map": {{"layer": "{name}"}}}}')
    assert weigh(Member(name="a", model=str(tmp_path)), None).whole == 0
