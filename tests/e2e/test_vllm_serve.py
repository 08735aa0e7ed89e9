"""`headgate serve MODEL --flag ...` with a real engine, as a client of `vllm serve` finds it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.serving import Server

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]


@pytest.fixture(scope="module")
def server(pair: Path, engine_env: dict[str, str]) -> Iterator[Server]:
    server = Server(pair / "small", engine_env)
    yield server
    server.close()


def test_it_answers_under_each_of_its_names(server: Server) -> None:
    status, models = server.ask("/v1/models")
    assert (status, [model["id"] for model in models["data"]]) == (200, ["tiny", "other"])
    assert {model["max_model_len"] for model in models["data"]} == {512}
    for name in ("tiny", "other", "auto"):
        body = {"model": name, "messages": [{"role": "user", "content": "1 + 1?"}], "max_tokens": 4}
        status, answer = server.ask("/v1/chat/completions", body)
        assert (status, answer["model"]) == (200, "tiny")


def test_probes_tell_what_vllms_tell(server: Server) -> None:
    import vllm

    assert server.ask("/version")[1]["version"] == vllm.__version__
    assert server.ask("/health")[0] == server.ask("/ping")[0] == server.ask("/ping", {})[0] == 200
    assert server.ask("/load") == (200, {"server_load": 0})


def test_an_invocation_is_a_chat_or_a_completion(server: Server) -> None:
    chat = {"messages": [{"role": "user", "content": "1 + 1?"}], "max_tokens": 2}
    assert server.ask("/invocations", chat)[1]["object"] == "chat.completion"
    assert server.ask("/invocations", {"prompt": "1 +", "max_tokens": 2})[1]["object"] == "text_completion"


def test_vllms_engine_routes_are_asked_on_the_admin_port(server: Server) -> None:
    assert server.ask("/members/tiny/is_sleeping", admin=True) == (200, {"is_sleeping": False})
    assert server.ask("/members/tiny/reset_prefix_cache", {}, admin=True) == (200, {"success": True})
    status, answer = server.ask("/members/tiny/sleep?level=7", {}, admin=True)
    assert (status, "level" in answer["error"]["message"]) == (400, True)
    assert server.ask("/health")[0] == 200


def test_an_engine_that_sleeps_gets_no_requests_until_it_is_woken(server: Server) -> None:
    body = {"prompt": "1 +", "max_tokens": 2}
    assert server.ask("/members/tiny/sleep?level=1", {}, admin=True)[0] == 200
    assert server.ask("/health")[0] == server.ask("/v1/completions", body)[0] == 503
    assert server.ask("/members/tiny/is_sleeping", admin=True)[0] == 200
    assert server.ask("/members/tiny/wake_up", {}, admin=True)[0] == 200
    assert server.ask("/health")[0] == server.ask("/v1/completions", body)[0] == 200


def test_a_body_of_another_type_is_refused(server: Server) -> None:
    status, answer = server.ask("/v1/completions", {"prompt": "x"}, "text/plain")
    assert (status, answer["error"]["param"]) == (400, "content-type")


def test_without_vllms_switch_no_answer_is_stored_and_none_is_made_in_the_background(server: Server) -> None:
    status, made = server.ask("/v1/responses", {"input": "x", "max_output_tokens": 4})
    assert status == 200
    status, answer = server.ask(f"/v1/responses/{made['id']}")
    assert (status, answer["error"]["message"]) == (404, f"Response with id '{made['id']}' not found.")
    status, answer = server.ask("/v1/responses", {"input": "x", "background": True})
    assert (status, "VLLM_ENABLE_RESPONSES_API_STORE=1" in answer["error"]["message"]) == (400, True)


def test_adapters_need_vllms_switch(server: Server) -> None:
    status, answer = server.ask("/members/tiny/v1/load_lora_adapter", {"lora_name": "x", "lora_path": "/x"}, admin=True)
    assert (status, "enable_lora: true" in answer["error"]["message"]) == (400, True)
