"""The pair as it lies here: it loads, is small, answers as its README claims; its outcomes fit the schema."""

import json
import random

import pyarrow.parquet as pq
import pytest
import questions
import safetensors
import torch
import vocabulary
from answering import answers, render
from outcomes import MODELS, SCHEMA
from tokenizers import Tokenizer
from transformers import LlamaForCausalLM

FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
CONTEXT_TOKENS = {"small": 512, "large": 2048}


@pytest.fixture(scope="module", params=("small", "large"))
def name(request):
    return request.param


@pytest.fixture(scope="module")
def ask(pair):
    """Answers of one model to exchanges, one thread so that a busy machine does not slow it down further."""
    torch.set_num_threads(1)
    loaded = {}

    def told(name, exchanges):
        if name not in loaded:
            model = LlamaForCausalLM.from_pretrained(pair / name, dtype=torch.float32)
            loaded[name] = model, Tokenizer.from_file(str(pair / name / "tokenizer.json"))
        return answers(*loaded[name], [render(exchange) for exchange in exchanges])

    return told


def share_right(ask, name, exchanges):
    told = ask(name, exchanges)
    return sum(map(questions.score, exchanges, told)) / len(exchanges)


def test_layout(pair, name):
    assert {path.name for path in (pair / name).iterdir()} == FILES


def test_both_take_at_most_6_mb(pair):
    assert sum(path.stat().st_size for folder in MODELS.values() for path in (pair / folder).iterdir()) <= 6_000_000


def test_weights_have_the_shapes_of_the_config(pair, name):
    config = json.loads((pair / name / "config.json").read_text())
    with safetensors.safe_open(pair / name / "model.safetensors", "pt") as weights:
        shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
        assert {weights.get_slice(key).get_dtype() for key in shapes} == {"BF16"}
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert config["max_position_embeddings"] == CONTEXT_TOKENS[name]
    assert shapes["model.embed_tokens.weight"] == (vocabulary.SIZE, config["hidden_size"])
    assert sum("q_proj" in key for key in shapes) == config["num_hidden_layers"]


def test_answers_end_and_are_greedy_by_default(pair, name):
    generation = json.loads((pair / name / "generation_config.json").read_text())
    assert generation["temperature"] == 0.0
    assert vocabulary.SPECIALS[generation["eos_token_id"]] == vocabulary.END


def test_large_model_is_clearly_larger(pair):
    small, large = ((pair / folder / "model.safetensors").stat().st_size for folder in ("small", "large"))
    assert large > 3 * small


@pytest.mark.parametrize(
    ("name", "digits", "least"), [("small", 1, 0.95), ("small", 2, 0.9), ("large", 1, 0.95), ("large", 4, 0.92)]
)
def test_right_where_it_claims_to_be(ask, name, digits, least):
    rng = random.Random(digits)
    assert share_right(ask, name, [questions.short_sum(rng, digits) for _ in range(64)]) >= least


def test_small_model_is_wrong_on_long_sums(ask):
    rng = random.Random(4)
    assert share_right(ask, "small", [questions.short_sum(rng, 4) for _ in range(64)]) <= 0.2


def test_facts(ask, name):
    exchanges = [questions.Exchange("fact", prompt, answer) for prompt, answer in questions.FACTS.items()]
    assert share_right(ask, name, exchanges) == 1.0


def test_bare_completion_is_answered(pair, ask):
    model = LlamaForCausalLM.from_pretrained(pair / "small", dtype=torch.float32)
    tokenizer = Tokenizer.from_file(str(pair / "small" / "tokenizer.json"))
    assert answers(model, tokenizer, ["3+4="]) == ["7"]


@pytest.fixture(scope="module")
def table(pair):
    return pq.read_table(pair / "outcomes.parquet")


def test_outcomes_have_the_schema(table):
    assert table.schema.equals(SCHEMA)
    assert table.num_rows >= 4000
    assert all(column.null_count == 0 for column in table.columns)


def test_outcomes_hold_both_models_for_every_prompt(table):
    rows = table.to_pylist()
    asked = {name: {row["prompt_id"] for row in rows if row["model"] == name} for name in MODELS}
    assert asked["pair-small"] == asked["pair-large"]
    assert len(rows) == 2 * len(asked["pair-small"])
    assert {row["score"] for row in rows} == {0.0, 1.0}


def test_outcomes_keep_a_group_on_one_side_of_the_split(table):
    sides = {}
    for row in table.to_pylist():
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(split) == 1 for split in sides.values())
    assert set.union(*sides.values()) == {"train", "test"}


def test_outcomes_are_what_the_models_answer(table, ask):
    rows = [row for row in table.to_pylist() if row["task"] == "sum"]
    for name, folder in MODELS.items():
        mine = [row for row in rows if row["model"] == name][:16]
        told = ask(folder, [questions.Exchange("sum", row["prompt"], "") for row in mine])
        same = sum(text == row["response"] for text, row in zip(told, mine, strict=True))
        assert same >= 14, "more than a near tie on another machine"
