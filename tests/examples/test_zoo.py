"""The zoo as it lies here: it loads, is small, answers as its outcomes say; these fit the schema and the README."""

import json

import pyarrow.parquet as pq
import pytest
import safetensors

pytestmark = pytest.mark.usefixtures("one_thread")

FILES = {"config.json", "generation_config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}
FOLDERS = ("small", "middle", "large")
SAMPLE = 24  # prompts a model, one of each task and level


@pytest.fixture(scope="module")
def table(zoo):
    return pq.read_table(zoo / "outcomes.parquet")


@pytest.fixture(scope="module")
def rows(table, labelling):
    """The table's rows by the model's folder, in the order of the prompts."""
    found = {folder: [] for folder in FOLDERS}
    for row in table.to_pylist():
        found[labelling.MODELS[row["model"]]].append(row)
    return found


def sample(rows):
    """One row of each task and level."""
    first = {}
    for row in rows:
        first.setdefault((row["task"], row["level"]), row)
    return list(first.values())


@pytest.mark.parametrize("folder", FOLDERS)
def test_layout(zoo, folder):
    assert {path.name for path in (zoo / folder).iterdir()} == FILES


def test_all_three_and_the_table_and_the_checkpoint_take_at_most_12_mb(zoo):
    kept = [path for path in zoo.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(path.stat().st_size for path in kept) <= 12_000_000


@pytest.mark.parametrize("folder", FOLDERS)
def test_weights_are_bfloat16_of_the_shapes_of_the_config(zoo, training, folder):
    config = json.loads((zoo / folder / "config.json").read_text())
    with safetensors.safe_open(zoo / folder / "model.safetensors", "pt") as weights:
        shapes = {key: tuple(weights.get_slice(key).get_shape()) for key in weights.keys()}  # noqa: SIM118
        assert {weights.get_slice(key).get_dtype() for key in shapes} == {"BF16"}
    assert config["architectures"] == ["LlamaForCausalLM"]
    assert sum("q_proj" in key for key in shapes) == config["num_hidden_layers"] == training.final_shape(folder).layers
    assert config["hidden_size"] == training.final_shape(folder).hidden


def test_all_share_one_tokenizer_and_it_is_the_one_the_script_makes(zoo, training):
    kept = {(zoo / folder / "tokenizer.json").read_bytes() for folder in FOLDERS}
    assert len(kept) == 1
    assert json.loads(training.lexicon.build().to_str()) == json.loads(kept.pop())


def test_outcomes_have_the_schema_and_all_models_for_every_prompt(table, labelling):
    assert table.schema.equals(labelling.SCHEMA)
    assert all(column.null_count == 0 for column in table.columns)
    rows = table.to_pylist()
    asked = [{row["prompt_id"] for row in rows if row["model"] == name} for name in labelling.MODELS]
    assert asked[0] == asked[1] == asked[2]
    assert len(asked[0]) >= 1000
    assert len(rows) == 3 * len(asked[0])


def test_outcomes_keep_a_group_on_one_side_of_the_split(table):
    sides = {}
    for row in table.to_pylist():
        sides.setdefault(row["group"], set()).add(row["split"])
    assert all(len(split) == 1 for split in sides.values())
    assert set.union(*sides.values()) == {"train", "test"}


def test_prompts_of_the_outcomes_are_of_the_split_that_was_not_trained_on(table):
    assert all(int(group, 16) % 10 == 0 for group in table.column("group").to_pylist())


def test_readme_table_is_that_of_the_outcomes(zoo, table, labelling):
    assert labelling.markdown(labelling.summary(table.to_pylist())) in (zoo / "README.md").read_text()


@pytest.mark.parametrize("folder", FOLDERS)
def test_model_gives_the_answers_of_the_table_again(zoo, rows, labelling, folder):
    asked = sample(rows[folder])
    assert len(asked) == SAMPLE
    texts, tokens = labelling.told(zoo / folder, [row["prompt"] for row in asked], show=False)
    same = [text == row["response"] for text, row in zip(texts, asked, strict=True)]
    assert sum(same) >= SAMPLE - 3, "more than a few near ties on another machine"
    assert [n for n, ok in zip(tokens, same, strict=True) if ok] == [
        row["output_tokens"] for row, ok in zip(asked, same, strict=True) if ok
    ]


def test_larger_models_are_right_more_often(rows):
    right = {folder: sum(row["score"] for row in rows[folder]) / len(rows[folder]) for folder in FOLDERS}
    assert right["small"] < right["middle"] < right["large"]
