"""LoRA adapters over scripted hosts: model names of their own, added and removed while the server runs."""

import json
import os
import signal
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Serve
from tests.conftest import wait_until

LOAD, UNLOAD = "/members/small/v1/load_lora_adapter", "/members/small/v1/unload_lora_adapter"
REFUSED = {"user": json.dumps([["fail", 400, "rank", False]])}


@pytest.fixture
def start(serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path) -> Callable[..., Serve]:
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "adapter_config.json").write_text('{"r": 8}')
    (tmp_path / "sql" / "adapter_model.safetensors").write_bytes(b"")

    def start(**args: Any) -> Serve:
        small = {"enable_lora": True, "lora_modules": [f"sql={tmp_path}/sql"], **args}
        members = [
            {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1, "engine_args": small},
            {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9},
        ]
        return serve(config(pool=members))

    return start


@pytest.fixture
def server(start: Callable[..., Serve]) -> Serve:
    return start()


def cards(server: Serve) -> dict[str, Any]:
    with server.open("/v1/models") as response:
        return {card["id"]: card for card in json.loads(response.read())["data"]}


def asked(server: Serve, model: str, path: str = "/v1/chat/completions", **body: Any) -> Any:
    content = {"messages": [{"role": "user", "content": "x"}]} if "chat" in path else {}
    with server.open(path, {"model": model, **content, **body}) as response:
        return json.loads(response.read())


def refusal(server: Serve, path: str, body: Any, *, admin: bool = True) -> tuple[int, str]:
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.open(path, body, admin=admin)
    with refused.value as answer:
        return answer.code, json.loads(answer.read())["error"]["message"]


def load(server: Serve, name: str, path: str = "/adapters/x", **more: Any) -> None:
    with server.open(LOAD, {"lora_name": name, "lora_path": path, **more}, admin=True) as response:
        assert response.status == 200


def test_an_adapter_is_listed_as_vllm_lists_it_and_asked_for_by_name(server: Serve, tmp_path: Path) -> None:
    there = cards(server)
    assert list(there) == ["auto", "small", "sql", "large"]
    about = {key: there["sql"][key] for key in ("root", "parent", "max_model_len")}
    assert about == {"root": f"{tmp_path}/sql", "parent": "small", "max_model_len": None}
    assert there["small"]["parent"] is None
    with server.post({"model": "sql", "messages": [{"role": "user", "content": "x"}]}) as response:
        answer = json.loads(response.read())
        assert (answer["model"], answer["adapter"]) == ("small", "sql")
        assert (response.headers["x-headgate-model"], response.headers["x-headgate-reason"]) == ("small", "pinned")
    assert "adapter" not in asked(server, "small")
    assert "adapter" not in asked(server, "auto")
    with server.open("/v1/models/sql") as response:
        assert json.loads(response.read())["id"] == "sql"


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/completions", {"prompt": "x"}),
        ("/v1/responses", {"input": "x"}),
        ("/v1/messages", {"messages": [{"role": "user", "content": "x"}], "max_tokens": 4}),
        ("/tokenize", {"prompt": "x"}),
        ("/detokenize", {"tokens": [1]}),
    ],
)
def test_every_dialect_reaches_it(start: Callable[..., Serve], path: str, body: dict[str, Any]) -> None:
    able = ["chat", "completions", "responses", "messages"]
    answer = asked(start(capabilities=able), "sql", path, **body)
    assert (answer["model"], answer["adapter"]) == ("small", "sql")


def test_one_that_is_not_there_is_refused_with_those_that_are(server: Serve) -> None:
    status, why = refusal(server, "/v1/completions", {"model": "sqk", "prompt": "x"}, admin=False)
    assert status == 404
    assert why == "model 'sqk' does not exist; did you mean 'sql'? there are auto, small, large, sql"


def test_one_that_is_loaded_can_be_asked_for_until_it_is_unloaded(server: Serve) -> None:
    load(server, "new", "/adapters/new")
    assert cards(server)["new"]["root"] == "/adapters/new"
    assert asked(server, "new")["adapter"] == "new"
    with server.open("/members", admin=True) as response:
        members = {member["name"]: member["adapters"] for member in json.loads(response.read())["members"]}
    assert members == {"small": ["sql", "new"], "large": []}
    with server.open(UNLOAD, {"lora_name": "new"}, admin=True):
        pass
    assert "new" not in cards(server)
    assert refusal(server, "/v1/completions", {"model": "new", "prompt": "x"}, admin=False)[0] == 404


def test_one_that_the_engine_refuses_is_no_name_and_nothing_is_lost(server: Serve) -> None:
    assert refusal(server, LOAD, {"lora_name": "new", "lora_path": "/a", **REFUSED}) == (400, "scripted 400")
    assert refusal(server, UNLOAD, {"lora_name": "sql", **REFUSED})[0] == 400
    assert list(cards(server)) == ["auto", "small", "sql", "large"]
    assert asked(server, "sql")["adapter"] == "sql"


def test_refused_loads_of_status_500_do_not_count_against_the_engine(server: Serve) -> None:
    script = json.dumps([["fail", 500, "adapter_refused", False]])
    for _ in range(10):
        assert refusal(server, LOAD, {"lora_name": "new", "lora_path": "/a", "user": script}) == (500, "scripted 500")
    with server.open("/members", admin=True) as response:
        states = [member["state"] for member in json.loads(response.read())["members"]]
    assert [state["breaker_open"] for state in states] == [False, False]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("large", "is taken by member 'large'"),
        ("small", "is taken by member 'small'"),
        ("auto", "it is empty or means a route"),
        ("router-mf-0.5", "it is empty or means a route"),
        ("a\nb", "expected a name of up to 256 characters"),
    ],
)
def test_a_name_that_means_something_else_is_refused_before_the_engine_is_asked(
    server: Serve, name: str, why: str
) -> None:
    status, said = refusal(server, LOAD, {"lora_name": name, "lora_path": "/a"})
    assert (status, why in said) == (400, True), said


def test_an_engine_without_adapters_is_refused_with_the_key(server: Serve) -> None:
    path = LOAD.replace("small", "large")
    assert refusal(server, path, {"lora_name": "x", "lora_path": "/a"}) == (
        400,
        "'large' takes no adapters: that needs `engine_args: {enable_lora: true}`",
    )


@pytest.mark.parametrize("body", [[], {"lora_name": 1}, {"lora_name": {}}])
def test_a_body_without_a_name_is_refused(server: Serve, body: Any) -> None:
    assert refusal(server, LOAD, body)[0] == 400


def lose(server: Serve) -> None:
    def small() -> Any:
        with server.open("/members", admin=True) as response:
            return json.loads(response.read())["members"][0]

    os.kill(small()["pid"], signal.SIGKILL)
    wait_until(lambda: (now := small())["restarts"] == 1 and now["phase"] == "ready", small)


def test_a_new_engine_loads_again_what_was_loaded_into_the_one_before(server: Serve) -> None:
    load(server, "new")
    lose(server)
    assert list(cards(server)) == ["auto", "small", "sql", "new", "large"]
    assert asked(server, "new")["adapter"] == "new"


def test_one_that_a_new_engine_refuses_is_told_of_and_the_engine_serves(start: Callable[..., Serve]) -> None:
    server = start(refuses_again=["new"])
    load(server, "new")
    lose(server)
    server.wait_said("adapters that could not be loaded again: new")
    assert list(cards(server)) == ["auto", "small", "sql", "large"]
    assert asked(server, "sql")["adapter"] == "sql"


def test_a_host_of_an_older_release_is_not_asked_what_it_does_not_know(start: Callable[..., Serve]) -> None:
    server = start(verbs=[])
    for path, body in ((LOAD, {"lora_name": "new", "lora_path": "/a"}), ("/members/small/sleep", {})):
        status, why = refusal(server, path, body)
        assert (status, why) == (501, "the host of 'small' is of a release that does not know this: restart it")
    assert asked(server, "small")["model"] == "small"
