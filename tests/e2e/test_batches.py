"""Batches by the `openai` client over a real engine: each endpoint, beside live requests, an engine lost."""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.cli.test_batches import begun, results
from tests.conftest import PATIENCE_S, WORK_S
from tests.e2e.test_serve import Server

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

SUM = "What is 12 + 30?"


@pytest.fixture(scope="module")
def server(
    pair: Path, engine_args: dict[str, Any], engine_env: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    args = engine_args | {"max_num_seqs": 8, "scheduling_policy": "priority"}
    tree = {
        "server": {"port": 0, "admin_port": 0},
        "pool": [{"name": "small", "model": str(pair / "small"), "strength": 0.4, "engine_args": args}],
        "batches": {"path": str(tmp_path_factory.mktemp("batches") / "folder")},
    }
    server = Server(tree, engine_env)
    try:
        server.wait_ready()
        yield server
    finally:
        server.close()


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S) as client:
        yield client


def line(number: int, url: str, **body: Any) -> dict[str, Any]:
    asked = {"model": "small", "temperature": 0, **body}
    return {"custom_id": f"line-{number}", "method": "POST", "url": url, "body": asked}


def ended(client: openai.OpenAI, id: str) -> Any:
    give_up = time.monotonic() + WORK_S
    while (batch := client.batches.retrieve(id)).status not in ("completed", "failed", "expired", "cancelled"):
        assert time.monotonic() < give_up, batch
        time.sleep(0.1)
    assert batch.status == "completed", batch
    return batch


@pytest.mark.parametrize(
    ("url", "body", "answer"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": SUM}], "max_tokens": 8}, "choices"),
        ("/v1/completions", {"prompt": SUM, "max_tokens": 8}, "choices"),
        ("/v1/responses", {"input": SUM, "max_output_tokens": 8}, "output"),
        ("/v1/messages", {"messages": [{"role": "user", "content": SUM}], "max_tokens": 8}, "content"),
    ],
)
def test_a_batch_gives_each_endpoints_own_answers(
    client: openai.OpenAI, url: str, body: dict[str, Any], answer: str
) -> None:
    lines = [*(line(n, url, **body) for n in range(1, 13)), line(13, url, **body, top_p=7)]
    batch = ended(client, begun(client, lines, endpoint=url).id)
    found = results(client, batch.output_file_id)
    assert found.keys() == {f"line-{n}" for n in range(1, 13)}
    said = {
        json.dumps(each["response"]["body"][answer][0].get("message", {}).get("content")) for each in found.values()
    }
    assert len(said) == 1
    (wrong,) = results(client, batch.error_file_id).values()
    assert (wrong["custom_id"], wrong["response"]["status_code"]) == ("line-13", 400)
    assert "top_p" in wrong["response"]["body"]["error"]["message"]


def test_live_requests_are_answered_beside_a_batch_and_a_lost_engine_loses_none_of_its_lines(
    server: Server, client: openai.OpenAI
) -> None:
    chat = {"messages": [{"role": "user", "content": SUM}], "max_tokens": 64, "ignore_eos": True}
    id = begun(client, [line(n, "/v1/chat/completions", **chat) for n in range(1, 61)]).id
    for _ in range(5):
        text = client.chat.completions.create(
            model="small", messages=[{"role": "user", "content": SUM}], max_tokens=4, temperature=0
        )
        assert text.choices[0].message.content
    assert client.batches.retrieve(id).status == "in_progress"
    os.kill(server.members()["small"]["pid"], signal.SIGKILL)
    server.wait_back("small")
    batch = ended(client, id)
    found = results(client, batch.output_file_id)
    lost = results(client, batch.error_file_id)
    assert found.keys() | lost.keys() == {f"line-{n}" for n in range(1, 61)}
    assert len(lost) <= 1  # one that alone waited for its first token may be why the engine was lost
