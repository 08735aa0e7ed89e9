"""SIGUSR2: a running server runs its own command line again, which takes over from it."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.cli.anew import command_anew
from tests.cli.test_takeover import answers, hosts_of
from tests.conftest import PATIENCE_S, wait_until


@pytest.mark.parametrize(
    ("command", "again"),
    [
        ("headgate serve a.yaml", "headgate serve --takeover a.yaml"),
        ("python -m router.cli.main serve m --dtype half", "python -m router.cli.main serve --takeover m --dtype half"),
        ("headgate serve a.yaml --takeover", "headgate serve a.yaml --takeover"),
    ],
)  # fmt: skip
def test_the_command_line_of_a_server_becomes_one_that_takes_over(command: str, again: str) -> None:
    assert command_anew(command.split()) == tuple(again.split())


def test_a_server_that_is_sent_sigusr2_is_taken_over_by_its_own_command_line(
    serve: Any, config: Callable[..., Path]
) -> None:
    old = serve(config())
    hosts = hosts_of(old)
    old.signal(signal.SIGUSR2)
    old.next_event()
    while old.events[-1]["event"] != "serving":
        old.next_event()
    assert old.events[-1]["url"] == old.url
    old.process.wait(PATIENCE_S)
    assert old.process.returncode == 0
    answers(old)
    assert hosts_of(old) == hosts
    (new,) = (pid for pid in old.children() if pid not in hosts.values())
    os.kill(new, signal.SIGTERM)
    wait_until(lambda: not old.children(), lambda: f"left behind: {old.children()}")
    assert "Traceback" not in old.errors


def test_a_command_line_that_no_longer_serves_leaves_the_old_server_as_it_was(
    serve: Any, config: Callable[..., Path]
) -> None:
    file = config()
    old = serve(file)
    file.write_text("{")
    old.signal(signal.SIGUSR2)
    old.wait_said("ended with exit code 2; this server goes on")
    answers(old)
