"""Members that sleep when they are idle and wake for a request, over scripted hosts."""

import concurrent.futures
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

LARGE = {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9}


def small(level: bool = True, **on: Any) -> list[dict[str, Any]]:
    """`small` sleeps after a second; `on`: scripts of its host for `sleep` and `wake_up`."""
    args: dict[str, Any] = {"on": {f"/{name}": script for name, script in on.items()}}
    if level:
        args["enable_sleep_mode"] = True
    member = {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1, "engine_args": args}
    return [{**member, "sleep": {"after_s": 1}}, LARGE]


def member(server: Serve, name: str = "small") -> dict[str, Any]:
    with server.open("/members", admin=True) as response:
        return next(one for one in json.loads(response.read())["members"] if one["name"] == name)


def wait_phase(server: Serve, *phases: str) -> dict[str, Any]:
    wait_until(lambda: member(server)["phase"] in phases, lambda: f"{member(server)}\n{server.errors}")
    return member(server)


def wait_asleep(server: Serve, phase: str = "asleep") -> dict[str, Any]:
    wait_until(
        lambda: (member(server)["phase"], member(server)["sleep"]) == (phase, "asleep"),
        lambda: f"{member(server)}\n{server.errors}",
    )
    return member(server)


def ask(server: Serve, model: str = "small", **headers: str) -> tuple[int, str]:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    try:
        with server.post(body, headers) as response:
            return response.status, str(json.loads(response.read())["model"])
    except urllib.error.HTTPError as error:
        with error:
            return error.code, str(json.loads(error.read())["error"]["message"])


def test_an_idle_engine_is_ended_and_started_again_for_many_requests_at_once(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    server = serve(config(pool=small(level=False)))
    parked = wait_asleep(server, "parked")
    assert (parked["state"]["ready"], parked["pid"], parked["sleeps"]) == (True, 0, 1)
    with server.open("/ready") as response:
        assert json.loads(response.read()) == {"status": "ready", "members": {"small": "parked", "large": "ready"}}
    with concurrent.futures.ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: ask(server), range(8)))
    assert answers == [(200, "small")] * 8
    awake = member(server)
    assert awake["wake_s"] > 0
    assert wait_asleep(server, "parked")["sleeps"] == 2


def test_a_request_by_name_wakes_it_and_one_whose_deadline_comes_first_does_not_wait(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    gate.touch()
    server = serve(config(pool=small(wake_up=[["await", str(gate)], ["echo"], ["done"]])))
    wait_until(lambda: member(server)["sleeps"] >= 2, lambda: server.errors)  # the first one at the start
    wait_asleep(server)
    gate.unlink()
    with concurrent.futures.ThreadPoolExecutor(1) as threads:
        waits = threads.submit(ask, server)
        wait_until(lambda: member(server)["sleep"] == "waking", lambda: server.errors)
        status, why = ask(server, **{"x-headgate-deadline": "0.3"})
        assert (status, why) == (504, "the answer was not complete within 0.3 s")
        gate.touch()
        assert waits.result() == (200, "small")
    with server.open("/metrics") as response:
        page = response.read().decode()
    assert 'headgate_member_asleep{model="small"}' in page
    assert 'headgate_member_wake_seconds{model="small"}' in page


def test_one_that_cannot_wake_is_away_others_answer_and_by_name_the_error_says_why(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    server = serve(config(pool=small(wake_up=[["fail", 500, "broken", False]])))
    wait_until(lambda: member(server)["sleep"] == "away", lambda: server.errors)
    assert "could not be woken: scripted 500" in member(server)["last_error"]
    assert ask(server, "auto") == (200, "large")
    status, why = ask(server)
    assert status == 503
    assert "'small'" in why
    with server.open("/ready") as response:
        assert json.loads(response.read())["status"] == "degraded"


def test_one_that_is_killed_while_it_sleeps_is_started_again(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    server = serve(config(pool=small()))
    before = wait_asleep(server)
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: member(server)["restarts"] == 1, lambda: server.errors)
    wait_phase(server, "ready")
    assert ask(server) == (200, "small")


def test_one_that_is_killed_as_it_wakes_costs_its_requests_no_hang_and_comes_back(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path
) -> None:
    server = serve(config(pool=small(wake_up=[["die"]])))
    wait_until(lambda: member(server)["restarts"] >= 1, lambda: server.errors)  # its first sleep, at the start
    wait_until(lambda: member(server)["sleeps"] >= 2, lambda: server.errors)
    wait_asleep(server)
    with concurrent.futures.ThreadPoolExecutor(6) as threads:
        answers = list(threads.map(lambda i: ask(server, "auto" if i % 2 else "small"), range(6)))
    assert {status for status, _ in answers} <= {200, 503}
    assert all(answer == (200, "large") for answer in answers[1::2])
    wait_until(lambda: member(server)["restarts"] >= 2, lambda: server.errors)


def test_one_that_sleeps_is_handed_over_asleep_and_woken_by_the_new_process(
    serve: Callable[..., Serve], config: Callable[..., Path], taking: Callable[..., Serve]
) -> None:
    file = config(pool=small())
    old = serve(file)
    wait_until(lambda: member(old)["sleeps"] >= 2, lambda: old.errors)  # the first one at the start
    pid = wait_asleep(old)["pid"]
    new = taking(old, file)
    taken = wait_asleep(new)
    assert (taken["pid"], taken["restarts"]) == (pid, 0)
    assert ask(new) == (200, "small")
    code, error = old.end()
    assert (code, "Traceback" in error) == (0, False), error


def test_one_whose_process_is_ended_is_started_by_the_process_that_takes_over(
    serve: Callable[..., Serve], config: Callable[..., Path], taking: Callable[..., Serve]
) -> None:
    file = config(pool=small(level=False))
    old = serve(file)
    wait_asleep(old, "parked")
    new = taking(old, file)
    wait_phase(new, "ready", "parked")
    assert ask(new) == (200, "small")
    assert wait_asleep(new, "parked")["sleeps"] >= 1
    assert old.end()[0] == 0


@pytest.mark.parametrize(
    ("sleep", "says"),
    [
        ({"after_s": 0}, "expected 1 to 315,360,000 seconds, got 0.0 - at `$.pool[0].sleep.after_s`"),
        ({"after_s": 5, "level": 3}, "$.pool[0].sleep.level"),
        ({}, "$.pool[0].sleep"),
    ],
)
def test_settings_out_of_bounds_are_refused(
    serve: Callable[..., Serve], config: Callable[..., Path], sleep: dict[str, Any], says: str
) -> None:
    pool = small()
    pool[0]["sleep"] = sleep
    server = serve(config(pool=pool), ready=False)
    code, error = server.end()
    assert code == 2
    assert says in error
