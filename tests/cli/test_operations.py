"""Engine routes of the admin port over scripted hosts: a member that sleeps gets no requests."""

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

FAIL = {"user": json.dumps([["fail", 400, "no_sleep_mode", False]])}


@pytest.fixture
def server(serve: Callable[..., Serve], config: Callable[..., Path]) -> Serve:
    return serve(config())


def asked(server: Serve, path: str, body: Any = None) -> Any:
    with server.open(path, {} if body is None else body, admin=True) as response:
        return json.loads(response.read())


def phases(server: Serve) -> dict[str, str]:
    with server.open("/members", admin=True) as response:
        return {member["name"]: member["phase"] for member in json.loads(response.read())["members"]}


def answering(server: Serve, model: str = "auto") -> str:
    body = {"model": model, "messages": [{"role": "user", "content": "x"}]}
    with server.post(body) as response:
        return str(json.loads(response.read())["model"])


def test_a_call_reaches_the_engine_as_it_was_asked(server: Serve) -> None:
    answer = asked(server, "/members/small/sleep?level=2")
    assert answer["model"] == "small"
    assert answer["hello"]["role"] == "owner"
    assert answer["body"] == {"path": "/sleep", "query": "level=2", "body": "{}"}


def test_a_member_that_sleeps_gets_no_requests_until_it_is_woken(server: Serve) -> None:
    first = answering(server)
    asked(server, f"/members/{first}/sleep")
    assert phases(server)[first] == "asleep"
    assert answering(server) != first
    with pytest.raises(urllib.error.HTTPError) as refused:
        answering(server, first)
    assert refused.value.code == 503
    refused.value.close()
    asked(server, f"/members/{first}/wake_up")
    assert phases(server)[first] == "ready"
    assert answering(server) == first


def test_a_member_whose_engine_refuses_to_sleep_goes_on(server: Serve) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        asked(server, "/members/small/sleep", FAIL)
    assert refused.value.code == 400
    refused.value.close()
    assert phases(server) == {"small": "ready", "large": "ready"}


def test_a_member_that_is_lost_while_it_sleeps_is_started_again(server: Serve) -> None:
    asked(server, "/members/small/sleep")
    with server.open("/members", admin=True) as response:
        (pid,) = [member["pid"] for member in json.loads(response.read())["members"] if member["name"] == "small"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: phases(server)["small"] == "ready", lambda: str(phases(server)))


def test_a_member_that_is_not_there_is_told_with_those_that_are(server: Serve) -> None:
    with pytest.raises(urllib.error.HTTPError) as refused:
        asked(server, "/members/medium/sleep")
    with refused.value as answer:
        assert answer.code == 404
        assert b"no member 'medium'; there are small, large" in answer.read()
