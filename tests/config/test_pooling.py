"""Which members are pooling models, before one of them runs."""

import json
from pathlib import Path
from typing import Any

import pytest

from router.config import Member, is_pooling


def model(folder: Path, *architectures: object, **files: str) -> str:
    (folder / "config.json").write_text(json.dumps({"architectures": list(architectures)}))
    for name, text in files.items():
        (folder / f"{name}.json").write_text(text)
    return str(folder)


@pytest.mark.parametrize(
    ("engine_args", "pools"),
    [
        ({}, False),
        ({"runner": "pooling"}, True),
        ({"--runner": "pooling", "convert": "embed"}, True),
        ({"convert": "classify"}, True),
        ({"convert": "none"}, False),
        ({"convert": "auto", "runner": "auto"}, False),
        ({"runner": "generate", "convert": "embed"}, False),
    ],
)
def test_arguments_tell_it(engine_args: dict[str, Any], pools: bool) -> None:
    assert is_pooling(Member(name="m", model="org/name", engine_args=engine_args)) is pools


@pytest.mark.parametrize(
    ("architecture", "pools"),
    [
        ("LlamaForCausalLM", False),
        ("Qwen2VLForConditionalGeneration", False),
        ("GPT2LMHeadModel", False),
        ("BertModel", True),
        ("XLMRobertaForSequenceClassification", True),
        ("BertForTokenClassification", True),
        ("InternLM2ForRewardModel", True),
        ("Unheard", False),
        (None, False),
    ],
)
def test_the_folders_architecture_tells_it(tmp_path: Path, architecture: str | None, pools: bool) -> None:
    assert is_pooling(Member(name="m", model=model(tmp_path, architecture))) is pools


def test_sentence_transformers_pool_whatever_their_architecture(tmp_path: Path) -> None:
    assert is_pooling(Member(name="m", model=model(tmp_path, "Qwen3ForCausalLM", modules="[]")))


@pytest.mark.parametrize("text", ["", "[]", "null", '{"architectures": 3}', "\xff", "[" * 100_000])
def test_a_description_that_cannot_be_read_is_somebody_elses_to_refuse(tmp_path: Path, text: str) -> None:
    (tmp_path / "config.json").write_bytes(text.encode("latin-1"))
    assert not is_pooling(Member(name="m", model=str(tmp_path)))


@pytest.mark.parametrize(
    ("capabilities", "pools"), [(None, False), (("chat",), False), (("embeddings", "rerank"), True)]
)
def test_a_url_is_what_its_capabilities_say(capabilities: Any, pools: bool) -> None:
    assert is_pooling(Member(name="m", kind="openai", url="http://h", capabilities=capabilities)) is pools


@pytest.mark.parametrize(
    ("variable", "below"), [("HF_HUB_CACHE", "."), ("HF_HOME", "hub"), ("XDG_CACHE_HOME", "huggingface/hub")]
)
def test_a_hub_id_is_looked_up_in_the_hubs_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, below: str
) -> None:
    for name in ("HF_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    member = Member(name="m", model="org/bge")
    assert not is_pooling(member)
    folder = tmp_path / below / "models--org--bge"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc\n")
    assert not is_pooling(member)
    (folder / "snapshots" / "abc").mkdir(parents=True)
    model(folder / "snapshots" / "abc", "BertModel")
    assert is_pooling(member)
