"""Stored answers over scripted hosts: each is asked of the member that has it, and what goes on from one goes there."""

import json
import os
import signal
import subprocess
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.ipc.response_ids import holder, new_id
from tests.cli.conftest import Serve
from tests.conftest import wait_until

ABLE = {"capabilities": ["chat", "completions", "responses"]}


@pytest.fixture
def start(serve: Callable[..., Serve], config: Callable[..., Path]) -> Callable[..., Serve]:
    def start(*, small: Any = ABLE, large: Any = ABLE, **branches: Any) -> Serve:
        members = [
            {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1, "engine_args": small},
            {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9, "engine_args": large},
        ]
        return serve(config(pool=members, **branches))

    return start


@pytest.fixture
def server(start: Callable[..., Serve]) -> Serve:
    return start()


def member(server: Serve, name: str) -> Any:
    with server.open("/members", admin=True) as response:
        return next(m for m in json.loads(response.read())["members"] if m["name"] == name)


def id_of(server: Serve, name: str) -> str:
    return new_id(holder(name, member(server, name)["pid"]))


def asked(server: Serve, path: str, body: Any = None) -> Any:
    with server.open(path, body) as response:
        return json.loads(response.read())


def refusal(server: Serve, path: str, body: Any = None) -> tuple[int, Any]:
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.open(path, body)
    with refused.value as answer:
        return answer.code, json.loads(answer.read())["error"]


@pytest.mark.parametrize("name", ["small", "large"])
def test_the_id_leads_to_the_member_that_has_the_answer(server: Serve, name: str) -> None:
    id = id_of(server, name)
    answer = asked(server, f"/v1/responses/{id}?stream=false")
    assert (answer["model"], answer["body"]["path"]) == (name, f"/v1/responses/{id}")
    answer = asked(server, f"/v1/responses/{id}/cancel", {})
    assert (answer["model"], answer["body"]["path"]) == (name, f"/v1/responses/{id}/cancel")
    for model in ("auto", name):
        answer = asked(server, "/v1/responses", {"model": model, "input": "x", "previous_response_id": id})
        assert answer["model"] == name


def test_another_member_that_is_named_is_refused(server: Serve) -> None:
    id = id_of(server, "small")
    status, error = refusal(server, "/v1/responses", {"model": "large", "input": "x", "previous_response_id": id})
    assert (status, error["param"]) == (400, "previous_response_id")
    assert error["message"] == f"`previous_response_id`: response '{id}' is stored by 'small', not by 'large'"


def test_an_answer_of_an_engine_that_was_lost_is_gone_and_the_refusal_says_so(server: Serve) -> None:
    id = id_of(server, "small")
    os.kill(member(server, "small")["pid"], signal.SIGKILL)
    wait_until(lambda: (now := member(server, "small"))["restarts"] == 1 and now["phase"] == "ready")
    for path, body in ((f"/v1/responses/{id}", None), ("/v1/responses", {"input": "x", "previous_response_id": id})):
        status, error = refusal(server, path, body)
        assert (status, error["code"], error["type"]) == (404, "response_gone", "not_found_error")
        assert "the engine of 'small', which had stored it, was started anew since" in error["message"]


def test_an_id_that_nobody_made_is_not_found(server: Serve) -> None:
    for id in ("resp_unknown", new_id(holder("another pool's", 7))):
        status, error = refusal(server, f"/v1/responses/{id}")
        assert (status, error["message"]) == (404, f"Response with id '{id}' not found.")
        assert refusal(server, "/v1/responses", {"input": "x", "previous_response_id": id})[0] == 404
    answer = asked(server, "/v1/responses", {"model": "large", "input": "x", "previous_response_id": "resp_unknown"})
    assert answer["model"] == "large"  # which knows best what it has


def test_an_id_that_nobody_made_is_the_only_members_to_judge(start: Callable[..., Serve]) -> None:
    server = start(large={"capabilities": ["chat"]})
    assert asked(server, "/v1/responses/resp_unknown")["model"] == "small"


def test_an_id_that_a_client_chose_leads_to_the_member_that_answered(server: Serve) -> None:
    for name in ("small", "large"):
        asked(server, "/v1/responses", {"model": name, "input": "x", "request_id": f"mine-{name}"})
    for name in ("small", "large"):
        assert asked(server, f"/v1/responses/mine-{name}")["model"] == name
        assert asked(server, "/v1/responses", {"input": "x", "previous_response_id": f"mine-{name}"})["model"] == name


def test_a_host_of_an_older_release_is_not_asked(start: Callable[..., Serve]) -> None:
    server = start(small={**ABLE, "verbs": []})
    status, error = refusal(server, f"/v1/responses/{id_of(server, 'small')}")
    assert (status, error["code"]) == (501, "older_host")


def test_an_answer_in_the_background_holds_its_slot_until_it_is_made_and_is_recorded_then(
    start: Callable[..., Serve], tmp_path: Path
) -> None:
    limits = {"in_flight": 1, "queue_requests": 0}
    server = start(
        server={"port": 0, "admin_port": 0, "limits": limits}, journal={"path": str(tmp_path / "j"), "prompts": True}
    )
    made_now = tmp_path / "now"
    script = [["chunk", '{"id": "resp_1"}'], ["await", str(made_now)], ["done"]]
    body = {"model": "small", "input": "x", "background": True, "user": json.dumps(script)}
    assert asked(server, "/v1/responses", body) == {"id": "resp_1"}
    assert refusal(server, "/v1/responses", {"input": "y"})[0] == 429
    assert asked(server, "/load")["server_load"] == 1
    made_now.touch()
    wait_until(lambda: asked(server, "/load")["server_load"] == 0)
    assert asked(server, f"/v1/responses/{id_of(server, 'small')}")["model"] == "small"
    records: list[Any] = []

    def written() -> bool:
        lines = [line for file in (tmp_path / "j").glob("*.jsonl*") for line in file.read_text().splitlines()]
        records[:] = [record for line in lines if (record := json.loads(line)).get("type") == "request"]
        return len(records) == 2

    wait_until(written, lambda: records)
    made, retrieved = records
    assert (made["kind"], made["end"], made["model"], made["completion_tokens"]) == ("responses", "finish", "small", 5)
    assert (retrieved["kind"], retrieved["end"], retrieved["model"]) == ("stored", "finish", "small")
    assert "turns" not in retrieved


def test_an_answer_in_the_background_goes_on_when_its_client_has_left(server: Serve, tmp_path: Path) -> None:
    made_now = tmp_path / "now"
    script = [["chunk", "event: a\ndata: {}\n\n"], ["await", str(made_now)], ["chunk", "x"], ["done"]]
    body = {"model": "small", "input": "x", "background": True, "stream": True, "user": json.dumps(script)}
    with server.open("/v1/responses", body) as response:
        response.read(10)
    assert asked(server, "/load")["server_load"] == 1
    made_now.touch()
    wait_until(lambda: asked(server, "/load")["server_load"] == 0)
    assert asked(server, "/v1/completions", {"model": "small", "prompt": "x"})["aborted"] == 0


def background(server: Serve, go_on: Path) -> None:
    """One is begun at `small`, and its client told; it is made once `go_on` is there."""
    script = [["chunk", '{"id": "resp_1"}'], ["await", str(go_on)], ["done"]]
    body = {"model": "small", "input": "x", "background": True, "user": json.dumps(script)}
    assert asked(server, "/v1/responses", body) == {"id": "resp_1"}


def ends(folder: Path) -> list[tuple[str, int]]:
    """How each request in the journal ended, and its status."""
    lines = [line for file in folder.glob("*.jsonl*") for line in file.read_text().splitlines()]
    records = [json.loads(line) for line in lines]
    return [(record["end"], record["status"]) for record in records if record.get("type") == "request"]


def test_a_server_that_is_ended_waits_for_an_answer_in_the_background(
    start: Callable[..., Serve], tmp_path: Path
) -> None:
    server = start(journal={"path": str(tmp_path / "j")})
    background(server, tmp_path / "go on")
    server.signal(signal.SIGTERM)
    server.wait_said("ending: 1 running answers may finish")
    with pytest.raises(subprocess.TimeoutExpired):
        server.process.wait(1.0)
    (tmp_path / "go on").touch()
    code, error = server.end()
    assert (code, "Traceback" in error) == (0, False), error
    assert ends(tmp_path / "j") == [("finish", 200)]


def test_an_answer_in_the_background_that_outlasts_the_drain_is_cut_and_recorded_so(
    start: Callable[..., Serve], tmp_path: Path
) -> None:
    doors = {"port": 0, "admin_port": 0, "limits": {"drain_s": 0.5}}
    server = start(server=doors, journal={"path": str(tmp_path / "j")})
    background(server, tmp_path / "never")
    server.signal(signal.SIGTERM)
    code, error = server.end()
    assert code == 0
    assert "ending: 1 answers that run in the background are cut" in error
    assert ends(tmp_path / "j") == [("error", 502)]


def test_a_process_that_was_taken_over_from_stays_until_its_answer_in_the_background_is_made(
    start: Callable[..., Serve], taking: Callable[..., Serve], tmp_path: Path
) -> None:
    old = start(journal={"path": str(tmp_path / "j")})
    background(old, tmp_path / "go on")
    new = taking(old, tmp_path / "headgate.yaml")
    old.wait_said("serves now: 1 running answers finish here")
    assert asked(new, f"/v1/responses/{id_of(new, 'small')}")["model"] == "small"  # in the engine, whoever asks
    with pytest.raises(subprocess.TimeoutExpired):
        old.process.wait(2.0)
    (tmp_path / "go on").touch()
    code, error = old.end()
    assert (code, "Traceback" in error) == (0, False), error
    assert ends(tmp_path / "j") == [("finish", 200)] * 2  # and that it was asked for


def test_an_answer_that_a_canary_has_stored_is_asked_of_it_by_the_name_that_it_answers_as(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    large = {"name": "large", "model": "stub", "strength": 0.6, "engine_args": ABLE}
    server = serve(config(pool=[large, {**large, "name": "next", "replaces": "large", "weight": 0.5}]))
    pids = {name: member(server, name)["pid"] for name in ("large", "next")}
    for name in ("large", "next"):
        id = new_id(holder("large", pids[name]))
        for _ in range(8):  # of which a draw would take half elsewhere
            body = {"model": "large", "input": "x", "previous_response_id": id}
            request = server.open("/v1/responses", body)
            assert request.headers["x-headgate-model"] == name
            request.close()
        assert asked(server, f"/v1/responses/{id}")["model"] == "large"
