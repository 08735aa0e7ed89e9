"""The zoo behind one endpoint, as its `headgate.yaml` has it: members answer as their outcomes say, `auto` routes."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pyarrow.parquet as pq
import pytest
import yaml

from tests.e2e.test_serve import Server, serving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1800)]

MEMBERS = ("zoo-small", "zoo-middle", "zoo-large")
PROMPTS = 48  # two of each task and level
Row = dict[str, Any]
Rows = dict[str, list[Row]]


@pytest.fixture(scope="module")
def zoo(root: Path) -> Path:
    pytest.importorskip("vllm", reason="serving needs vLLM")
    return root / "examples" / "zoo"


@pytest.fixture(scope="module")
def rows(zoo: Path) -> Rows:
    """The first rows of the outcomes of each member."""
    found: Rows = {name: [] for name in MEMBERS}
    for row in pq.read_table(zoo / "outcomes.parquet").to_pylist():
        found[row["model"]].append(row)
    return {name: kept[:PROMPTS] for name, kept in found.items()}


@pytest.fixture(scope="module")
def client(zoo: Path) -> Iterator[openai.OpenAI]:
    config = yaml.safe_load((zoo / "headgate.yaml").read_text())
    config["server"] |= {"port": 0, "admin_port": 0}
    config["routing"]["checkpoint"] = str(zoo / config["routing"]["checkpoint"])
    for member in config["pool"]:
        member["model"] = str(zoo / member["model"])
    with serving(config, dict(os.environ)) as server:
        assert isinstance(server, Server)
        with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as made:
            yield made


def told(client: openai.OpenAI, model: str, rows: list[Row]) -> list[tuple[str, int]]:
    """Text and output tokens of the answers, eight at a time."""

    def ask(row: Row) -> tuple[str, int]:
        turns = [{"role": "user", "content": row["prompt"]}]
        done = client.chat.completions.create(model=model, messages=turns, max_tokens=144)  # type: ignore[arg-type]
        assert done.usage is not None
        return done.choices[0].message.content or "", done.usage.completion_tokens

    with ThreadPoolExecutor(8) as pool:
        return list(pool.map(ask, rows))


@pytest.mark.parametrize("name", MEMBERS)
def test_member_answers_as_the_outcomes_say(client: openai.OpenAI, rows: Rows, name: str) -> None:
    answers = told(client, name, rows[name])
    same = [text == row["response"] for (text, _), row in zip(answers, rows[name], strict=True)]
    assert sum(same) >= PROMPTS - 5, "more than a few near ties"
    tokens = [n == row["output_tokens"] for (_, n), row in zip(answers, rows[name], strict=True)]
    assert sum(tokens) >= PROMPTS - 5


def test_auto_routes_to_members_of_the_zoo(client: openai.OpenAI, rows: Rows) -> None:
    turns = [{"role": "user", "content": rows["zoo-small"][0]["prompt"]}]
    done = client.chat.completions.create(model="auto", messages=turns, max_tokens=144)  # type: ignore[arg-type]
    assert done.model in MEMBERS
