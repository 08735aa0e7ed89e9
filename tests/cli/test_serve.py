"""`headgate serve` as a process, over scripted hosts: start, keys, signals, failures, memory, nothing left behind."""

import json
import os
import signal
import socket
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import wait_until

MESSAGES = [{"role": "user", "content": "what is 2 + 2?"}]


def script(*steps: list[Any], **fields: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": MESSAGES, "user": json.dumps(steps), **fields}


def test_starts_answers_and_ends_well(serve: Any, config: Callable[..., Path]) -> None:
    server = serve(config())
    told = [(event["event"], event.get("member")) for event in server.events[:4]]
    assert told[:2] == [("starting", "small"), ("starting", "large")]
    assert sorted(told[2:]) == [("ready", "large"), ("ready", "small")]
    assert [member["name"] for member in server.events[4]["members"]] == ["small", "large"]
    assert server.events[4]["members"][0]["placement"]["reference"] == "llama-3.1-8b-instruct"
    assert Path(server.events[4]["members"][0]["log"]).exists()
    with server.post({"model": "auto", "messages": MESSAGES}) as response:
        assert json.load(response)["model"] == "large"
        assert response.headers["x-headgate-model"] == "large"
        assert response.headers["x-headgate-reason"] == "utility"
    server.signal(signal.SIGTERM)
    code, error = server.end()
    assert code == 0, error
    assert "Traceback" not in error
    server.wait_childless()
    assert os.listdir(server.folder.name) == []


def test_the_frontend_stays_small(serve: Any, config: Callable[..., Path]) -> None:
    server = serve(config())
    for _ in range(50):
        server.post({"model": "auto", "messages": MESSAGES}).read()
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    (rss,) = [int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmRSS")]
    assert rss <= 100, f"{rss:.0f} MB"
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "libtorch" not in maps


def test_running_answers_finish_after_sigterm(serve: Any, config: Callable[..., Path]) -> None:
    server = serve(config())
    answer = server.post(
        script(["chunk", "data: a\n\n"], ["sleep", 1.0], ["chunk", "data: [DONE]\n\n"], ["done"], stream=True)
    )
    assert answer.readline() == b"data: a\n"
    server.signal(signal.SIGTERM)
    assert b"[DONE]" in answer.read()
    assert server.end()[0] == 0
    server.wait_childless()


def test_a_second_signal_ends_at_once(serve: Any, config: Callable[..., Path]) -> None:
    limits = {"drain_s": 600}
    server = serve(config(server={"port": 0, "admin_port": 0, "limits": limits}))
    answer = server.post(script(["chunk", "data: a\n\n"], ["sleep", 600], stream=True))
    answer.readline()
    server.signal(signal.SIGTERM)
    wait_until(lambda: status_of(server, "/ready") == 503)
    assert server.process.poll() is None
    server.signal(signal.SIGINT)
    assert server.end()[0] == 0, "within a minute, of ten that the drain may take"
    server.wait_childless()


def status_of(server: Any, path: str) -> int:
    """Of the admin port's answer."""
    try:
        with server.open(path, admin=True) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        error.close()
        return error.code


def test_nothing_outlives_a_killed_frontend(serve: Any, config: Callable[..., Path]) -> None:
    server = serve(config())
    assert len(server.children()) == 2
    server.signal(signal.SIGKILL)
    server.end()
    server.wait_childless()


def test_an_engine_that_fails_to_start_says_why(serve: Any, config: Callable[..., Path]) -> None:
    pool = [{"name": "one", "model": "stub", "engine_args": {"fail": "ValueError: no such dtype: float3"}}]
    server = serve(config(pool=pool), ready=False)
    assert server.next_event()["event"] == "starting"
    failed = server.next_event()
    assert (failed["event"], failed["why"]) == ("failed", "ValueError: no such dtype: float3")
    code, error = server.end()
    assert code == 1
    assert "headgate: error: engine 'one' failed to start: ValueError: no such dtype: float3" in error
    assert "Traceback" not in error
    server.wait_childless()


def test_a_signal_ends_a_start_under_way(serve: Any, config: Callable[..., Path]) -> None:
    pool = [{"name": "one", "model": "stub", "engine_args": {"slow_s": 60}}]
    server = serve(config(pool=pool), ready=False)
    server.next_event()
    server.signal(signal.SIGTERM)
    assert server.end()[0] == 0
    server.wait_childless()


def test_a_port_in_use_is_said_before_engines_start(serve: Any, config: Callable[..., Path]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        server = serve(config(), "--port", str(port), ready=False)
        code, error = server.end()
    assert code == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in error
    assert "in use" in error


def test_a_lost_engine_comes_back(serve: Any, config: Callable[..., Path]) -> None:
    server = serve(config())
    stream = server.post(script(["chunk", "data: a\n\n"], ["sleep", 0.1], ["die"], stream=True, model="small"))
    events = stream.read().decode()
    assert events.startswith("data: a\n\ndata: {")
    assert "engine 'small' was lost" in events
    assert events.endswith("data: [DONE]\n\n")
    refusals: set[tuple[int, bool]] = set()

    def is_back() -> bool:
        try:
            assert json.load(server.post({"model": "small", "messages": MESSAGES}))["model"] == "small"
            return True
        except urllib.error.HTTPError as error:
            refusals.add((error.code, error.headers["retry-after"] is not None))
            error.close()
            return False

    wait_until(is_back, lambda: refusals)
    assert refusals <= {(503, True)}


def test_a_request_that_kills_its_engine_is_not_handed_to_the_next(serve: Any, config: Callable[..., Path]) -> None:
    server = serve(config())
    with pytest.raises(urllib.error.HTTPError) as error:
        server.post(script(["die"]))
    assert (error.value.code, error.value.headers["x-should-retry"]) == (500, "false")
    told = json.load(error.value)["error"]
    error.value.close()
    assert (told["type"], told["code"]) == ("engine_error", "engine_lost")
    assert "engine 'large' was lost" in told["message"]
    assert json.load(server.post({"model": "small", "messages": MESSAGES}))["model"] == "small"


def test_the_key_guards_the_public_routes(serve: Any, config: Callable[..., Path]) -> None:
    server = serve(config(), env={"HEADGATE_API_KEY": "sesame"})
    with pytest.raises(urllib.error.HTTPError) as error:
        server.post({"model": "auto", "messages": MESSAGES})
    assert error.value.code == 401
    error.value.close()
    answer = json.load(server.post({"model": "auto", "messages": MESSAGES}, {"authorization": "Bearer sesame"}))
    assert answer["model"] == "large"
    for pid in server.children():
        assert "sesame" not in Path(f"/proc/{pid}/environ").read_text()


@pytest.mark.parametrize("keys", [[], ["${HEADGATE_API_KEY}"], ["real", "${HEADGATE_API_KEY}"]])
def test_a_key_left_empty_ends_the_start_and_opens_nothing(
    serve: Any, config: Callable[..., Path], keys: list[str]
) -> None:
    path = config(server={"host": "0.0.0.0", "port": 0, "admin_port": 0, "api_keys": keys})
    status, error = serve(path, env={"HEADGATE_API_KEY": ""}, ready=False).end()
    assert status == 2
    assert "the API key is empty" in error
    assert ("HEADGATE_API_KEY" if not keys else f"{path}: ") in error


def test_engines_inherit_no_variable_that_a_key_was_read_from(serve: Any, config: Callable[..., Path]) -> None:
    doors = {"port": 0, "admin_port": 0, "api_keys": ["${CLIENTS}", "${NONE:-${SPARE}}"]}
    env = {"CLIENTS": "s3same", "SPARE": "s3pare", "OTHER": "s3same", "HARMLESS": "stays"}
    server = serve(config(server=doors), env=env)
    children = server.children()
    assert len(children) == 2
    for pid in children:
        inherited = Path(f"/proc/{pid}/environ").read_text()
        assert "s3same" not in inherited
        assert "s3pare" not in inherited
        assert "HARMLESS=stays" in inherited


def test_sighup_reads_the_routing_again(serve: Any, config: Callable[..., Path], checkpoint: Path) -> None:
    path = config()
    server = serve(path)
    config(routing={"checkpoint": str(checkpoint), "price": 1e9})
    server.signal(signal.SIGHUP)
    wait_until(lambda: json.load(server.post({"model": "auto", "messages": MESSAGES}))["model"] == "small")
    config(routing={"checkpoint": "/no/such/file"})
    server.signal(signal.SIGHUP)
    server.wait_said("SIGHUP: nothing was changed: /no/such/file")
    assert json.load(server.post({"model": "auto", "messages": MESSAGES}))["model"] == "small"


def test_a_pair_without_a_file(serve: Any, checkpoint: Path) -> None:
    server = serve(
        "--small", "org/tiny-0.5b", "--large", "org/big-70b", "--port", "0", "--admin-port", "0",
        "--checkpoint", str(checkpoint), "--threshold", "0.999",
        "--engine-arg", "max_model_len=77", "--large-arg", "context_tokens=99",
    )  # fmt: skip
    models = {card["id"]: card for card in json.load(server.open("/v1/models"))["data"]}
    assert list(models) == ["auto", "small", "large"]
    assert models["large"]["max_model_len"] == 99
    with server.post({"model": "auto", "messages": MESSAGES}) as response:
        assert response.headers["x-headgate-threshold"] == "0.9990"
        assert json.load(response)["model"] == "small"
    assert json.load(server.post({"model": "org/big-70b", "messages": MESSAGES}))["model"] == "large"
