"""LoRA adapters of a real engine, made here: model names of their own, loaded and unloaded while it serves. The tests
share one server and run in order."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openai
import pytest
from safetensors.numpy import save_file

from tests.conftest import WORK_S, wait_until
from tests.e2e.serving import FLAGS, Server

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

#: Of the tiny model: two layers, its hidden size and that of its queries.
LAYERS, HIDDEN = 2, 64
LOAD, UNLOAD = "/members/tiny/v1/load_lora_adapter", "/members/tiny/v1/unload_lora_adapter"
CHAT = [{"role": "user", "content": "What is 12 + 30?"}]


def adapter(folder: Path, seed: int, *, rank: int = 4, hidden: int = HIDDEN) -> Path:
    """An adapter of random weights, large enough to change every answer."""
    folder.mkdir()
    random = np.random.default_rng(seed)
    card = {"peft_type": "LORA", "r": rank, "lora_alpha": 16, "target_modules": ["q_proj"], "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps(card))
    weights = {}
    for layer in range(LAYERS):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[f"{name}.lora_A.weight"] = random.normal(size=(rank, hidden)).astype(np.float32)
        weights[f"{name}.lora_B.weight"] = random.normal(size=(hidden, rank)).astype(np.float32)
    save_file(weights, folder / "adapter_model.safetensors")
    return folder


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("adapters")
    made = {name: adapter(folder / name, seed) for seed, name in enumerate(("first", "second"))}
    made["wide"] = adapter(folder / "wide", 2, rank=32)
    made["foreign"] = adapter(folder / "foreign", 3, hidden=128)
    return made


@pytest.fixture(scope="module")
def server(pair: Path, engine_env: dict[str, str], adapters: dict[str, Path]) -> Iterator[Server]:
    flags = ("--enable-lora", "--max-lora-rank", "8", "--lora-modules", f"first={adapters['first']}")
    server = Server(pair / "small", {**engine_env, "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "1"}, *flags)
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with server.client() as client:
        yield client


def said(client: openai.OpenAI, model: str, **more: Any) -> str:
    answer = client.chat.completions.create(model=model, messages=CHAT, temperature=0, max_tokens=16, **more)  # type: ignore[call-overload]
    assert answer.model == ("tiny" if model == "auto" else model)
    return str(answer.choices[0].message.content or "")


def refusal(server: Server, path: str, body: Any) -> tuple[int, str]:
    status, answer = server.ask(path, body, admin=True)
    return status, answer["error"]["message"]


def names(server: Server) -> list[str]:
    return [card["id"] for card in server.ask("/v1/models")[1]["data"]]


def test_an_adapter_answers_under_its_own_name(
    server: Server, client: openai.OpenAI, adapters: dict[str, Path]
) -> None:
    card = client.models.retrieve("first").model_dump()
    assert (card["root"], card["parent"], card["max_model_len"]) == (str(adapters["first"]), "tiny", None)
    assert said(client, "first") != said(client, "tiny") == said(client, "auto")
    assert said(client, "first") == said(client, "first", logprobs=True)  # which goes through vLLM's serving classes


def test_every_dialect_answers_in_its_name(server: Server, client: openai.OpenAI) -> None:
    with client.chat.completions.create(model="first", messages=CHAT, max_tokens=4, stream=True) as stream:  # type: ignore[call-overload]
        chunks = list(stream)
    assert {chunk.model for chunk in chunks} == {"first"}
    assert client.completions.create(model="first", prompt="1 +", max_tokens=4).model == "first"
    assert client.responses.create(model="first", input="1 + 1?", max_output_tokens=4).model == "first"
    message = {"model": "first", "messages": CHAT, "max_tokens": 4}
    assert server.ask("/v1/messages", message)[1]["model"] == "first"
    assert server.ask("/tokenize", {"model": "first", "prompt": "1 +"})[1]["count"] > 0


def test_one_is_loaded_and_unloaded_while_the_engine_serves(
    server: Server, client: openai.OpenAI, adapters: dict[str, Path]
) -> None:
    status, answer = server.ask(LOAD, {"lora_name": "second", "lora_path": str(adapters["second"])}, admin=True)
    assert (status, answer) == (200, "Success: LoRA adapter 'second' added successfully.")
    assert names(server) == ["tiny", "other", "first", "second"]
    assert said(client, "second") not in (said(client, "first"), said(client, "tiny"))
    status, why = refusal(server, LOAD, {"lora_name": "second", "lora_path": str(adapters["second"])})
    assert (status, "has already been loaded" in why) == (400, True)
    assert server.ask("/v1/unload_lora_adapter", {"lora_name": "second"})[0] == 200
    assert names(server) == ["tiny", "other", "first"]
    with pytest.raises(openai.NotFoundError):
        said(client, "second")
    assert refusal(server, UNLOAD, {"lora_name": "second"})[0] == 404


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("wide", "LoRA rank 32 is greater than max_lora_rank 8"),
        ("foreign", ""),
        ("missing", "missing"),
    ],
)
def test_one_that_does_not_fit_is_refused_with_the_reason_and_the_engine_serves(
    server: Server, client: openai.OpenAI, adapters: dict[str, Path], name: str, why: str
) -> None:
    path = str(adapters.get(name, "/no/such/missing"))
    status, said_why = refusal(server, LOAD, {"lora_name": "bad", "lora_path": path})
    assert status == (404 if name == "missing" else 500), said_why  # as vLLM answers
    assert why in said_why
    assert said_why
    assert "bad" not in names(server)
    assert said(client, "first") != said(client, "tiny")
    (member,) = server.ask("/members", admin=True)[1]["members"]
    assert (member["phase"], member["restarts"], member["state"]["breaker_open"]) == ("ready", 0, False)


def test_a_new_engine_has_those_of_its_arguments_and_those_that_were_loaded(
    server: Server, client: openai.OpenAI, adapters: dict[str, Path]
) -> None:
    assert server.ask(LOAD, {"lora_name": "second", "lora_path": str(adapters["second"])}, admin=True)[0] == 200
    before = said(client, "second")

    def member() -> Any:
        return server.ask("/members", admin=True)[1]["members"][0]

    os.kill(member()["pid"], signal.SIGKILL)
    for _ in range(10):  # a start takes longer than one wait may
        try:
            wait_until(lambda: (now := member())["restarts"] == 1 and now["phase"] == "ready", member)
            break
        except pytest.fail.Exception:
            continue
    assert names(server) == ["tiny", "other", "first", "second"]
    assert said(client, "second") == before


def test_an_adapter_of_the_arguments_that_vllm_refuses_ends_the_start_with_its_name_and_the_reason(
    pair: Path, engine_env: dict[str, str], adapters: dict[str, Path]
) -> None:
    command = [sys.executable, "-P", "-m", "router.cli.main", "serve", str(pair / "small"), *FLAGS.split()]
    flags = ["--enable-lora", "--lora-modules", f"first={adapters['first']}", f"foreign={adapters['foreign']}"]
    ended = subprocess.run(
        [*command, *flags], capture_output=True, text=True, env=engine_env, timeout=WORK_S, check=False
    )
    assert ended.returncode == 1
    assert "engine_args.lora_modules: adapter 'foreign': The size of tensor" in ended.stderr.splitlines()[-1]
