"""`headgate serve` of pooling models, over scripted hosts: what their engines say counts, whatever was known before."""

import base64
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import PATIENCE_S

EMBEDS = {"capabilities": ["embeddings", "rerank"]}
FLOATS = (0.5, -1.0)
EMBEDDING = base64.b64encode(struct.pack("<2f", *FLOATS)).decode()
ANSWER = {
    "object": "list",
    "model": "emb",
    "data": [{"object": "embedding", "index": 0, "embedding": EMBEDDING}],
    "usage": {"prompt_tokens": 10, "total_tokens": 10},
}
CHAT = {"messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.parametrize("known", [EMBEDS, EMBEDS | {"runner": "pooling"}])
def test_a_pool_of_one_embedding_model_serves_the_openai_client(
    serve: Any, config: Callable[..., Path], known: dict[str, Any]
) -> None:
    server = serve(config(pool=[{"name": "emb", "model": "stub", "engine_args": known}]))
    script = json.dumps([["chunk", json.dumps(ANSWER)], ["done"]])
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE_S) as client:
        for model in ("auto", "emb"):
            answer = client.embeddings.create(model=model, input="hello", user=script)
            assert answer.data[0].embedding == pytest.approx(FLOATS)
            assert (answer.model, answer.usage.prompt_tokens) == ("emb", 10)
        with pytest.raises(openai.BadRequestError, match="no model of the pool generates text; there are emb: /v1/emb"):
            client.chat.completions.create(model="auto", messages=CHAT["messages"])  # type: ignore[arg-type]
        with pytest.raises(openai.BadRequestError, match="'emb' does not answer /v1/chat/completions, but /v1/emb"):
            client.chat.completions.create(model="emb", messages=CHAT["messages"])  # type: ignore[arg-type]
        assert [model.id for model in client.models.list()] == ["auto", "emb"]
    assert httpx.get(f"{server.url}/health").status_code == 200


def test_beside_models_that_generate_it_is_asked_for_what_only_it_can_do(
    serve: Any, config: Callable[..., Path]
) -> None:
    pool = [
        {"name": "emb", "model": "stub", "strength": 0.9, "engine_args": EMBEDS},
        {"name": "small", "model": "stub", "strength": 0.4},
        {"name": "large", "model": "stub", "strength": 0.6},
    ]
    server = serve(config(pool=pool))

    def ask(path: str, body: dict[str, Any]) -> tuple[int, Any]:
        response = httpx.post(server.url + path, json=body, timeout=PATIENCE_S)
        return response.status_code, response.json()

    assert ask("/rerank", {"query": "q", "documents": ["d"]})[1]["model"] == "emb"
    for threshold, name in (("0", "large"), ("1", "small")):
        assert ask("/v1/chat/completions", CHAT | {"model": f"router-mf-{threshold}"})[1]["model"] == name
    status, answer = ask("/classify", {"input": "x"})
    assert (status, answer["error"]["code"]) == (400, "unsupported")
    assert (
        "no model of the pool answers /classify; there are emb: /v1/embeddings, /rerank" in answer["error"]["message"]
    )
    page = httpx.get(f"{server.admin}/metrics").text
    assert 'headgate_requests_total{model="emb",route="/rerank",status="200"} 1.0' in page


def test_an_answer_larger_than_the_largest_body_is_served_up_to_its_own_limit(
    serve: Any, config: Callable[..., Path]
) -> None:
    pool = [{"name": "emb", "model": "stub", "engine_args": EMBEDS}]
    limits = {"body_bytes": 4096, "answer_bytes": 20_000}
    server = serve(config(pool=pool, server={"port": 0, "admin_port": 0, "limits": limits}))

    def ask(characters: int) -> httpx.Response:
        begin, _, end = json.dumps(ANSWER | {"data": ["|"]}).partition("|")
        script = [["chunk", begin, 1], ["chunk", "A" * 1000, characters // 1000], ["chunk", end, 1], ["done"]]
        body = {"input": "x", "user": json.dumps(script)}
        return httpx.post(f"{server.url}/v1/embeddings", json=body, timeout=PATIENCE_S)

    assert ask(19_000).json()["data"] == ["A" * 19_000]
    refused = ask(20_000)
    assert refused.status_code == 502
    assert "the answer is larger than 20000 bytes (`server.limits.answer_bytes`)" in refused.text
