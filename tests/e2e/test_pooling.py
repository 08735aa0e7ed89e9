"""Real engines that pool, beside one that generates text: what vLLM's server answers for them, by the `openai` client
and by plain requests. The tests share one server.
"""

import base64
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.conftest import PATIENCE_S, wait_until
from tests.e2e.test_serve import Server, serving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

WIDTH = 64  #: of the small model
USER = [{"role": "user", "content": "What is 12 + 30?"}]


@pytest.fixture(scope="module")
def classifier(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model with a head that finds two classes equally likely."""
    import torch
    from safetensors.torch import load_file, save_file

    folder = tmp_path_factory.mktemp("classifier")
    shutil.copytree(pair / "small", folder, dirs_exist_ok=True)
    described = json.loads((folder / "config.json").read_text())
    labels = {"0": "SUM", "1": "OTHER"}
    told = {"architectures": ["LlamaForSequenceClassification"], "id2label": labels, "label2id": {"SUM": 0, "OTHER": 1}}
    (folder / "config.json").write_text(json.dumps(described | told))
    weights = load_file(folder / "model.safetensors")
    weights.pop("lm_head.weight", None)
    weights["score.weight"] = torch.zeros(2, WIDTH, dtype=torch.bfloat16)
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def server(
    pair: Path,
    classifier: Path,
    engine_args: dict[str, Any],
    engine_env: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Server]:
    small = str(pair / "small")
    pooling = engine_args | {"runner": "pooling"}
    switches = {"enable_scale_out": True, "enable_tokenizer_info_endpoint": True}
    config = {
        "server": {"port": 0, "admin_port": 0},
        "pool": [
            {"name": "emb", "model": small, "engine_args": pooling | {"convert": "embed"}},
            {"name": "classes", "model": str(classifier), "engine_args": engine_args},
            {"name": "small", "model": small, "also": ["other"], "engine_args": engine_args | switches},
        ],
        "journal": {"path": str(tmp_path_factory.mktemp("journal"))},
        "supervision": {"require": "all"},
    }
    with serving(config, engine_env) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def ask(server: Server, path: str, body: Any = None) -> tuple[int, Any]:
    response = httpx.request("GET" if body is None else "POST", server.url + path, json=body, timeout=PATIENCE_S)
    return response.status_code, response.json()


def refused(server: Server, path: str, body: Any = None) -> tuple[int, str]:
    status, answer = ask(server, path, body)
    assert set(answer["error"]) == {"message", "type", "param", "code"}
    return status, answer["error"]["message"]


@pytest.mark.parametrize("model", ["emb", "auto"])
def test_embeddings_by_the_openai_client(client: openai.OpenAI, model: str) -> None:
    answer = client.embeddings.create(model=model, input=["12 + 30", "hello"])
    assert [len(item.embedding) for item in answer.data] == [WIDTH, WIDTH]
    assert abs(sum(x * x for x in answer.data[0].embedding) - 1) < 1e-3
    assert (answer.model, answer.usage.prompt_tokens > 3) == ("emb", True)
    (same,) = client.embeddings.create(model=model, input="12 + 30", encoding_format="float").data
    assert same.embedding == pytest.approx(answer.data[0].embedding, abs=1e-5)


def test_base64_is_what_vllm_makes_of_it(server: Server) -> None:
    body = {"model": "emb", "input": [[5, 6, 7]], "encoding_format": "base64"}
    status, answer = ask(server, "/v1/embeddings", body)
    assert status == 200
    floats = struct.unpack(f"<{WIDTH}f", base64.b64decode(answer["data"][0]["embedding"]))
    _, told = ask(server, "/v1/embeddings", body | {"encoding_format": "float"})
    assert floats == pytest.approx(told["data"][0]["embedding"], abs=1e-5)
    assert refused(server, "/v1/embeddings", body | {"encoding_format": "bytes"})[0] == 400


@pytest.mark.parametrize("path", ["/rerank", "/v1/rerank", "/v2/rerank"])
def test_rerank_puts_the_same_text_first(server: Server, path: str) -> None:
    status, answer = ask(server, path, {"query": "12 + 30", "documents": ["hello", "12 + 30"], "top_n": 1})
    assert (status, [result["index"] for result in answer["results"]]) == (200, [1])


@pytest.mark.parametrize("path", ["/score", "/v1/score"])
def test_score_of_a_text_with_itself_is_one(server: Server, path: str) -> None:
    status, answer = ask(server, path, {"queries": "12 + 30", "documents": ["12 + 30"]})
    assert (status, answer["model"]) == (200, "emb")
    assert answer["data"][0]["score"] == pytest.approx(1, abs=1e-3)


def test_the_other_routes_of_pooling_models(server: Server) -> None:
    status, answer = ask(server, "/classify", {"input": "hello"})
    assert (status, answer["model"], answer["data"][0]["probs"]) == (200, "classes", [0.5, 0.5])
    assert answer["data"][0]["label"] in ("SUM", "OTHER")
    status, answer = ask(server, "/pooling", {"model": "emb", "input": "hello"})
    assert (status, len(answer["data"][0]["data"])) == (200, WIDTH)
    status, answer = ask(server, "/v2/embed", {"texts": ["hello"], "embedding_types": ["float"]})
    assert (status, len(answer["embeddings"]["float"][0])) == (200, WIDTH)
    status, answer = ask(server, "/tokenize", {"model": "emb", "prompt": "1 + 1"})
    assert (status, answer["count"]) == (200, 4)


def test_vllms_own_refusals_reach_the_client(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match="maximum context length is 512 tokens") as refusal:
        client.embeddings.create(model="emb", input="12 " * 2000)
    assert refusal.value.code == "context_length_exceeded"
    assert refused(server, "/v1/embeddings", {"model": "emb"}) == (400, refused(server, "/v1/embeddings", {})[1])
    assert refused(server, "/v1/embeddings", {"input": []}) == (400, "You must pass at least one prompt")
    server.wait_for("emb", phase="ready")


def test_who_cannot_is_refused_with_what_could_be_done(client: openai.OpenAI, server: Server) -> None:
    with pytest.raises(openai.BadRequestError, match=r"'emb' does not answer /v1/chat/completions, but .*; small can"):
        client.chat.completions.create(model="emb", messages=USER)
    with pytest.raises(openai.BadRequestError, match=r"'small' does not answer /v1/embeddings, but .*; emb can"):
        client.embeddings.create(model="small", input="x")
    with pytest.raises(openai.NotFoundError, match="model 'none' does not exist"):
        client.embeddings.create(model="none", input="x")
    status, why = refused(server, "/pooling", {"input": "x"})
    assert (status, "name one in `model`: emb, classes" in why) == (400, True)


def test_a_chat_left_open_goes_to_the_model_that_generates(client: openai.OpenAI) -> None:
    for _ in range(3):
        answer = client.chat.completions.create(model="auto", messages=USER, max_tokens=4)
        assert answer.model == "small"
    names = [model.id for model in client.models.list()]
    assert names == ["auto", "emb", "classes", "small", "other"]


def test_an_invocation_is_read_by_what_the_model_can_do(server: Server) -> None:
    assert ask(server, "/invocations", {"input": "x"})[1]["data"][0]["object"] == "embedding"
    assert ask(server, "/invocations", {"input": "x", "model": "classes"})[1]["data"][0]["num_classes"] == 2
    assert ask(server, "/invocations", {"messages": USER, "model": "emb"})[1]["data"][0]["object"] == "embedding"
    assert ask(server, "/invocations", {"messages": USER, "max_tokens": 2})[1]["object"] == "chat.completion"
    assert ask(server, "/invocations", {"query": "x", "documents": ["x"]})[1]["results"][0]["index"] == 0


def test_a_batch_of_conversations_has_a_choice_for_each(server: Server) -> None:
    path = "/v1/chat/completions/batch"
    status, answer = ask(server, path, {"model": "auto", "messages": [USER, USER], "max_tokens": 2, "temperature": 0})
    assert (status, answer["model"], [choice["index"] for choice in answer["choices"]]) == (200, "small", [0, 1])
    assert answer["choices"][0]["message"]["content"] == answer["choices"][1]["message"]["content"]
    assert answer["usage"]["completion_tokens"] == 4
    assert refused(server, path, {"model": "small", "messages": [USER], "n": 2})[0] == 400
    assert refused(server, path, {"model": "small", "messages": USER})[0] == 400


def test_routes_of_generating_models(server: Server) -> None:
    scored = {"query": "1 + 1 =", "items": [" 2", " 3"], "label_token_ids": [22, 23]}
    assert ask(server, "/generative_scoring", scored)[0] == 200
    status, prompt = ask(server, "/v1/chat/completions/render", {"messages": USER})
    assert (status, len(prompt["token_ids"]) > 5) == (200, True)
    status, prompts = ask(server, "/v1/completions/render", {"prompt": ["1 +", "2 +"]})
    assert (status, len(prompts)) == (200, 2)
    asked = {"token_ids": prompt["token_ids"], "sampling_params": {"max_tokens": 3, "ignore_eos": True}}
    status, answer = ask(server, "/inference/v1/generate", asked)
    assert (status, len(answer["choices"][0]["token_ids"])) == (200, 3)
    for query in ("", "?model=small", "?model=other"):
        status, info = ask(server, f"/tokenizer_info{query}")
        assert (status, "tokenizer_class" in info) == (200, True)
    assert refused(server, "/tokenizer_info?model=emb")[0] == 400
    assert refused(server, "/v1/responses/input_tokens", {"input": "x"})[0] == 400


def test_the_ledger_has_their_prompt_tokens_and_no_output(server: Server) -> None:
    folder = Path(json.loads(server.config.read_text())["journal"]["path"])
    _, answer = ask(server, "/rerank", {"query": "12 + 30", "documents": ["hello"]})

    def record() -> dict[str, Any]:
        lines = "".join(file.read_text() for file in sorted(folder.glob("*.jsonl"))).splitlines()
        records = [each for line in lines if (each := json.loads(line)).get("kind") == "rerank"]
        return records[-1] if records else {}

    wait_until(lambda: record().get("prompt_tokens") == answer["usage"]["prompt_tokens"], lambda: str(record()))
    told = record()
    assert (told["model"], told["end"], told["status"], told.get("completion_tokens", 0)) == ("emb", "finish", 200, 0)
    assert told["decision"]["reason"] == "pinned"
