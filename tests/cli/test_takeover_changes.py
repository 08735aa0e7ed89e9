"""Takeovers and changes of members by turns: what an operator has said of a member, and the file that the server was
started with, hold in the process that takes over."""

import signal
from collections.abc import Callable
from pathlib import Path

from tests.cli.conftest import Serve
from tests.cli.test_change_members import LARGE, SMALL, members
from tests.conftest import wait_until


def pids(server: Serve) -> dict[str, int]:
    return {member["name"]: member["pid"] for member in members(server)["members"]}


def test_sighup_after_a_takeover_restarts_no_engine_whose_lines_in_the_file_are_the_same(
    serve: Callable[..., Serve], taking: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    old = serve(config())
    before = pids(old)
    new = taking(old, config())
    new.signal(signal.SIGHUP)
    new.wait_said("SIGHUP: the routing settings were read again")
    config(pool=[SMALL, {**LARGE, "usd_per_hour": 3.0}])
    new.signal(signal.SIGHUP)
    wait_until(lambda: members(new)["changes"] and members(new)["changes"][-1]["stage"] == "done")
    assert pids(new) == before
