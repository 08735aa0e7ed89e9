"""`headgate serve --takeover` as processes over scripted hosts: ports and engines go to a new process, and no request
fails; whoever fails on the way, one of the two serves."""

import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.ipc.handover import Go, Offer, Ready, Refused, Taken
from tests.conftest import PATIENCE_S, wait_until

MESSAGES = [{"role": "user", "content": "what is 2 + 2?"}]


def script(*steps: list[Any], **fields: Any) -> dict[str, Any]:
    return {"model": "auto", "messages": MESSAGES, "user": json.dumps(steps), **fields}


def hosts_of(server: Any) -> dict[str, int]:
    """The engine hosts' processes, by member, as the admin port tells."""
    with server.open("/members", admin=True) as response:
        return {member["name"]: member["pid"] for member in json.load(response)["members"]}


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_new_process_takes_ports_and_engines_over_and_running_streams_finish_in_the_old_one(
    serve: Any, taking: Any, config: Callable[..., Path], tmp_path: Path
) -> None:
    file, go_on = config(), tmp_path / "go on"
    old = serve(file)
    hosts = hosts_of(old)
    stream = old.post(
        script(["chunk", "data: a\n\n"], ["await", str(go_on)], ["chunk", "data: [DONE]\n\n"], ["done"], stream=True)
    )
    assert stream.readline() == b"data: a\n"
    new = taking(old, file)
    assert (new.url, new.admin) == (old.url, old.admin)
    assert hosts_of(new) == hosts
    with new.post({"model": "auto", "messages": MESSAGES}) as response:
        assert json.load(response)["hello"]["role"] == "owner"
    old.wait_said(f"process {new.process.pid} serves now: 1 running answers finish here")
    go_on.touch()
    assert b"[DONE]" in stream.read()
    code, error = old.end()
    assert (code, "Traceback" in error) == (0, False), error
    with new.post({"model": "auto", "messages": MESSAGES}) as response:
        assert json.load(response)["model"] == "large"
    assert all(alive(pid) for pid in hosts.values())
    new.signal(signal.SIGTERM)
    code, error = new.end()
    assert (code, "Traceback" in error) == (0, False), error
    wait_until(lambda: not any(alive(pid) for pid in hosts.values()))
    assert os.listdir(old.folder.name) == []


def answers(server: Any) -> None:
    with server.post({"model": "auto", "messages": MESSAGES}) as response:
        assert json.load(response)["model"] == "large"


def test_an_idle_connection_to_the_old_process_is_answered_once_more_and_told_to_close(
    serve: Any, taking: Any, config: Callable[..., Path]
) -> None:
    file = config()
    old = serve(file)
    kept = [http.client.HTTPConnection("127.0.0.1", port_of(url), timeout=PATIENCE_S) for url in (old.url, old.admin)]
    for connection in kept:
        connection.request("GET", "/ready")
        assert connection.getresponse().read()
    new = taking(old, file)
    for connection, status in zip(kept, ("ready", "ready"), strict=True):
        connection.request("GET", "/ready")
        response = connection.getresponse()
        assert (response.status, json.load(response)["status"]) == (200, status)
        assert response.headers["connection"] == "close"
        connection.close()
    code, error = old.end()
    assert (code, "Traceback" in error) == (0, False), error
    answers(new)


def port_of(url: str) -> int:
    return int(url.rsplit(":", 1)[1])


def test_a_second_takeover_follows_the_first_and_an_engine_that_dies_then_is_started_again(
    serve: Any, taking: Any, config: Callable[..., Path]
) -> None:
    file = config()
    first = serve(file)
    hosts = hosts_of(first)
    second = taking(first, file)
    assert first.end()[0] == 0
    third = taking(second, file)
    assert second.end()[0] == 0
    assert hosts_of(third) == hosts
    os.kill(hosts["small"], signal.SIGKILL)
    wait_until(lambda: hosts_of(third)["small"] not in (0, hosts["small"]))
    wait_until(lambda: status_of(third, "/ready") == "ready")
    with third.post({"model": "small", "messages": MESSAGES}) as response:
        assert json.load(response)["model"] == "small"
    fourth = taking(third, file)
    assert third.end()[0] == 0
    answers(fourth)
    own = hosts_of(fourth)
    fourth.signal(signal.SIGTERM)
    assert fourth.end()[0] == 0
    wait_until(lambda: not any(alive(pid) for pid in own.values()))
    assert os.listdir(first.folder.name) == []


def status_of(server: Any, path: str) -> str:
    try:
        with server.open(path, admin=True) as response:
            return str(json.load(response)["status"])
    except urllib.error.HTTPError as error:
        with error:
            return str(json.load(error)["status"])


def test_the_old_process_is_killed_after_it_was_taken_over_and_the_engines_serve_on(
    serve: Any, taking: Any, config: Callable[..., Path]
) -> None:
    file = config()
    old = serve(file)
    stream = old.post(script(["chunk", "data: a\n\n"], ["sleep", 600], stream=True))
    stream.readline()
    new = taking(old, file)
    old.wait_said("serves now")
    old.signal(signal.SIGKILL)
    old.end()
    stream.close()
    answers(new)
    assert all(alive(pid) for pid in hosts_of(new).values())
    new.signal(signal.SIGKILL)
    new.end()
    wait_until(lambda: not old.children(), lambda: f"left behind: {old.children()}")


def test_a_signal_ends_the_old_process_that_still_has_streams_and_leaves_the_engines_alone(
    serve: Any, taking: Any, config: Callable[..., Path]
) -> None:
    file = config(server={"port": 0, "admin_port": 0, "limits": {"drain_s": 0}})
    old = serve(file)
    stream = old.post(script(["chunk", "data: a\n\n"], ["sleep", 600], stream=True))
    stream.readline()
    new = taking(old, file)
    old.wait_said("serves now: 1 running answers finish here")
    old.signal(signal.SIGTERM)
    assert b"the server is shutting down" in stream.read()
    code, error = old.end()
    assert (code, "Traceback" in error) == (0, False), error
    answers(new)


STAGES = ["looked", "asked", "ready", "went", "garbage", "out of turn"]


@pytest.mark.parametrize("stage", STAGES)
def test_a_new_process_that_ends_before_it_has_taken_over_leaves_the_old_one_as_it_was(
    serve: Any, taking: Any, usurp: Any, config: Callable[..., Path], stage: str
) -> None:
    file = config()
    old = serve(file)
    hosts = hosts_of(old)
    usurper = usurp(old)
    if stage == "looked":
        usurper.hear()
    else:
        assert isinstance(usurper.ask(), Offer)
        assert {host.name: host.pid for host in usurper.hosts} == hosts
    if stage == "ready":
        usurper.say(Ready())
    elif stage == "went":
        usurper.say(Ready())
        assert usurper.hear() == Go()
    elif stage == "garbage":
        usurper.say_raw("{")
        assert usurper.hear() == Refused("expected a message of a takeover: Input data was truncated")
    elif stage == "out of turn":
        usurper.say(Taken())
        refused = usurper.hear()
        assert isinstance(refused, Refused)
        assert refused.why == "expected `Ready`, got `Taken`"
    usurper.end()
    if stage != "looked":
        old.wait_said("this server goes on")
    answers(old)
    os.kill(hosts["small"], signal.SIGKILL)
    wait_until(lambda: hosts_of(old)["small"] not in (0, hosts["small"]))
    wait_until(lambda: status_of(old, "/ready") == "ready")
    new = taking(old, file)  # another may try again
    assert old.end()[0] == 0
    answers(new)


def test_of_two_takeovers_at_once_the_second_is_refused(
    serve: Any, taking: Any, usurp: Any, config: Callable[..., Path]
) -> None:
    file = config()
    old = serve(file)
    first = usurp(old)
    assert isinstance(first.ask(), Offer)
    second = taking(old, file, ready=False)
    code, error = second.end()
    assert code == 1
    assert f"process {os.getpid()} is taking it over already" in error
    assert "Traceback" not in error
    first.end()
    old.wait_said("this server goes on")
    answers(old)


@pytest.mark.parametrize(
    ("asks", "why"),
    [
        (
            {"frames": 99, "release": "9.9"},
            "release 9.9 speaks other protocols than this server; end it and start that",
        ),
        ({"handover": 99, "release": "9.9"}, "release 9.9 speaks other protocols than this server; end it and start "),
        ({"secret": "guessed"}, "`supervision.host_secret` is another one here"),
    ],
)
def test_a_takeover_that_does_not_fit_is_refused_and_the_server_goes_on(
    serve: Any, usurp: Any, config: Callable[..., Path], asks: dict[str, Any], why: str
) -> None:
    old = serve(config())
    usurper = usurp(old)
    refused = usurper.ask(**asks)
    usurper.end()
    assert isinstance(refused, Refused)
    assert why in refused.why
    answers(old)


def test_an_engine_lost_in_mid_takeover_has_it_refused(serve: Any, usurp: Any, config: Callable[..., Path]) -> None:
    old = serve(config())
    usurper = usurp(old)
    usurper.ask()
    os.kill(hosts_of(old)["small"], signal.SIGKILL)
    wait_until(lambda: status_of(old, "/ready") == "degraded")
    usurper.say(Ready())
    refused = usurper.hear()
    usurper.end()
    assert refused == Refused("engine 'small' was lost meanwhile; try again")
    wait_until(lambda: status_of(old, "/ready") == "ready")


POOL = [
    {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1},
    {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9},
]


@pytest.mark.parametrize(
    ("pool", "why"),
    [
        (POOL[:1], "the running server has an engine 'large', this config has none"),
        ([*POOL, {**POOL[0], "name": "third"}], "this config has an engine 'third', the running server has none"),
        (
            [{**POOL[0], "model": "other"}, POOL[1]],
            "engine 'small': `model` is 'stub' in the running server, 'other' in",
        ),
        (
            [POOL[0], {**POOL[1], "engine_args": {"dtype": "half"}}],
            "engine 'large': `engine_args.dtype` is not set in the running server, 'half' in this config",
        ),
    ],
)
def test_a_config_of_other_members_is_refused_and_the_server_goes_on(
    serve: Any, taking: Any, config: Callable[..., Path], pool: list[dict[str, Any]], why: str
) -> None:
    old = serve(config(pool=POOL))
    code, error = taking(old, config(pool=pool), ready=False).end()
    assert code == 2
    assert why in error
    assert "a takeover changes no engine" in error
    assert "Traceback" not in error
    answers(old)


def test_other_settings_and_another_admin_port_hold_after_a_takeover(
    serve: Any, taking: Any, config: Callable[..., Path]
) -> None:
    old = serve(config())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    new = taking(old, config(server={"port": 0, "admin_port": port, "api_keys": ["a" * 32]}))
    assert (new.url, port_of(new.admin)) == (old.url, port)
    with pytest.raises(urllib.error.HTTPError) as refused:
        new.post({"model": "auto", "messages": MESSAGES})
    with refused.value as error:
        assert error.code == 401
    assert old.end()[0] == 0
    with pytest.raises(urllib.error.URLError):
        old.open("/live", admin=True)


def test_without_a_running_server_on_the_address_there_is_nothing_to_take_over(
    serve: Any, taking: Any, config: Callable[..., Path]
) -> None:
    code, error = serve(config(), "--takeover", ready=False).end()
    assert code == 1
    assert "there is no running server of this user on 127.0.0.1:0 to take over from" in error
    old = serve(config())
    code, error = taking(old, config(), "--port", "17", ready=False).end()
    assert code == 1
    assert f"on 127.0.0.1:17 to take over from; there is process {old.process.pid} on 127.0.0.1:0" in error
    answers(old)


def test_a_member_that_does_not_run_is_started_by_the_new_process(
    serve: Any, taking: Any, config: Callable[..., Path], tmp_path: Path
) -> None:
    pool = [{**POOL[0], "engine_args": {"fail": "ValueError: not today"}}, POOL[1]]
    file = config(pool=pool, supervision={"backoff_s": 0.1, "backoff_max_s": 0.2, "stop_timeout_s": 2.0})
    old = serve(file)
    new = taking(old, file)
    assert old.end()[0] == 0
    answers(new)
    wait_until(lambda: "ValueError: not today" in new.errors, lambda: new.errors)


def test_a_socket_file_stays_through_a_takeover_and_goes_with_the_new_process(
    serve: Any, taking: Any, config: Callable[..., Path], tmp_path: Path
) -> None:
    with tempfile.TemporaryDirectory(prefix="hg-") as folder:
        path = os.path.join(folder, "s")
        file = config(server={"uds": path, "admin_port": 0})
        old = serve(file)
        new = taking(old, file)
        assert old.end()[0] == 0
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            client.sendall(b"GET /ready HTTP/1.1\r\nhost: x\r\n\r\n")
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        new.signal(signal.SIGTERM)
        assert new.end()[0] == 0
        assert not os.path.exists(path)


def test_systemd_hears_which_process_serves(serve: Any, taking: Any, config: Callable[..., Path]) -> None:
    with tempfile.TemporaryDirectory(prefix="hg-") as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(os.path.join(folder, "n"))
        ear.settimeout(PATIENCE_S)
        env = {"NOTIFY_SOCKET": os.path.join(folder, "n")}
        file = config()
        old = serve(file, env=env)
        assert ear.recv(1000).decode() == f"READY=1\nMAINPID={old.process.pid}"
        new = taking(old, file, env=env)
        assert ear.recv(1000).decode() == f"READY=1\nMAINPID={new.process.pid}"


def test_an_engine_that_sleeps_still_sleeps_after_a_takeover(
    serve: Any, taking: Any, config: Callable[..., Path]
) -> None:
    file = config()
    old = serve(file)
    old.open("/members/small/sleep", {}, admin=True).close()
    assert phases(old) == {"small": "asleep", "large": "ready"}
    new = taking(old, file)
    assert phases(new) == {"small": "asleep", "large": "ready"}
    new.open("/members/small/wake_up", {}, admin=True).close()
    assert phases(new) == {"small": "ready", "large": "ready"}
    assert old.end()[0] == 0


def phases(server: Any) -> dict[str, str]:
    with server.open("/members", admin=True) as response:
        return {member["name"]: member["phase"] for member in json.load(response)["members"]}


def test_an_engine_of_an_older_release_is_not_handed_over_and_the_server_goes_on(
    serve: Any, taking: Any, config: Callable[..., Path]
) -> None:
    file = config(pool=[{**POOL[0], "engine_args": {"verbs": []}}, POOL[1]])
    old = serve(file)
    code, error = taking(old, file, ready=False).end()
    assert code == 1
    assert "engine 'small' is of a release that cannot be handed over" in error
    answers(old)


def test_the_old_process_answers_by_an_engine_that_the_new_one_has_started_again(
    serve: Any, taking: Any, config: Callable[..., Path]
) -> None:
    file = config()
    old = serve(file)
    kept = [http.client.HTTPConnection("127.0.0.1", port_of(old.url), timeout=PATIENCE_S) for _ in range(100)]
    for connection in kept:
        connection.request("GET", "/live")
        assert connection.getresponse().read()
    new = taking(old, file)
    hosts = hosts_of(new)
    os.kill(hosts["small"], signal.SIGKILL)
    wait_until(lambda: hosts_of(new)["small"] not in (0, hosts["small"]))
    wait_until(lambda: status_of(new, "/ready") == "ready")
    body = json.dumps({"model": "small", "messages": MESSAGES})
    left = iter(kept)

    def answered() -> bool:
        time.sleep(PATIENCE_S / len(kept))
        connection = next(left)
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status == 200 and json.load(response)["hello"]["role"] == "client"

    wait_until(answered)
    for connection in kept:
        connection.close()
    code, error = old.end()
    assert (code, "Traceback" in error) == (0, False), error
    answers(new)


def test_a_server_that_is_ended_waits_for_the_answers_of_the_one_that_it_took_over_from(
    serve: Any, taking: Any, config: Callable[..., Path], tmp_path: Path
) -> None:
    file, go_on = config(), tmp_path / "go on"
    old = serve(file)
    stream = old.post(
        script(["chunk", "data: a\n\n"], ["await", str(go_on)], ["chunk", "data: [DONE]\n\n"], ["done"], stream=True)
    )
    stream.readline()
    new = taking(old, file)
    new.signal(signal.SIGTERM)  # its engines still answer for the old process
    new.wait_said("ending")
    with pytest.raises(subprocess.TimeoutExpired):
        new.process.wait(1.0)
    go_on.touch()
    assert b"[DONE]" in stream.read()
    assert old.end()[0] == 0
    code, error = new.end()
    assert (code, "Traceback" in error) == (0, False), error
    old.wait_childless()


def rated(server: Any, id: str) -> int:
    try:
        with server.open("/v1/feedback", {"id": id, "score": 1.0}) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def test_answers_of_the_old_process_are_rated_in_the_new_one_those_that_still_ran_once_it_has_ended(
    serve: Any, taking: Any, config: Callable[..., Path], tmp_path: Path
) -> None:
    file, go_on = config(journal={"path": str(tmp_path / "j")}), tmp_path / "go on"
    old = serve(file)
    with old.post({"model": "auto", "messages": MESSAGES}) as response:
        ended = response.headers["x-headgate-decision-id"]
    stream = old.post(script(["chunk", "data: a\n\n"], ["await", str(go_on)], ["chunk", "data: [DONE]\n\n"], ["done"],
                             stream=True))  # fmt: skip
    new = taking(old, file)
    wait_until(lambda: rated(new, ended) == 200)
    running = stream.headers["x-headgate-decision-id"]
    assert rated(new, running) == 404
    go_on.touch()
    assert b"[DONE]" in stream.read()
    assert old.end()[0] == 0
    wait_until(lambda: rated(new, running) == 200)
    third = taking(new, file)
    assert new.end()[0] == 0
    wait_until(lambda: (rated(third, ended), rated(third, running)) == (200, 200))
    elsewhere = taking(third, config(journal={"path": str(tmp_path / "another")}))
    assert third.end()[0] == 0
    assert rated(elsewhere, ended) == 404
