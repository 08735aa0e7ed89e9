"""Takeovers and changes of members by turns: what an operator has said of a member, and the file that the server was
started with, hold in the process that takes over."""

import signal
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.ipc.handover import Go, Offer, Ready, Refused
from tests.cli.conftest import Serve
from tests.cli.test_change_members import LARGE, SMALL, Cli, asked, begin, members, models, phases, refusal, token
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


def test_a_drained_member_is_drained_after_a_takeover_too(
    serve: Callable[..., Serve],
    taking: Callable[..., Serve],
    config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = serve(config())
    before = pids(old)
    Cli(old, capsys)("drain", "large")
    new = taking(old, config())
    assert phases(new) == {"small": "ready", "large": "draining"}
    assert refusal(new, "large")[0] == 503
    Cli(new, capsys)("resume", "large")
    assert asked(new, "large")[0]["x-headgate-model"] == "large"
    assert pids(new) == before
    assert old.end()[0] == 0


def test_one_that_sleeps_and_is_drained_is_both_after_a_takeover(
    serve: Callable[..., Serve],
    taking: Callable[..., Serve],
    config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    old = serve(config())
    old.open("/members/large/sleep", {}, admin=True).close()
    Cli(old, capsys)("drain", "large")
    new = taking(old, config())
    assert phases(new)["large"] == "asleep"
    new.open("/members/large/wake_up", {}, admin=True).close()
    assert phases(new)["large"] == "draining"


def test_a_member_by_url_that_is_drained_stays_so_through_a_takeover(
    serve: Callable[..., Serve],
    taking: Callable[..., Serve],
    config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    upstream = serve(config())
    far = {"name": "far", "kind": "openai", "url": upstream.url, "model": "large", "strength": 0.7}
    file = config(pool=[SMALL, far])
    old = serve(file)
    Cli(old, capsys)("drain", "far")
    new = taking(old, file)
    assert phases(new) == {"small": "ready", "far": "draining"}
    assert asked(new)[0]["x-headgate-model"] == "small"
    Cli(new, capsys)("resume", "far")
    assert phases(new)["far"] == "ready"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("/members/large/drain", "a member was drained or resumed meanwhile"),
        ("/members/large/sleep", "engine 'large' fell asleep or woke up meanwhile"),
    ],
)
def test_what_an_operator_says_of_a_member_during_a_takeover_has_it_refused_and_holds(
    serve: Callable[..., Serve], usurp: Any, config: Callable[..., Path], path: str, why: str
) -> None:
    old = serve(config())
    usurper = usurp(old)
    assert isinstance(usurper.ask(), Offer)
    old.open(path, {}, token(old), admin=True).close()
    usurper.say(Ready())
    refused = usurper.hear()
    assert isinstance(refused, Refused)
    assert why in refused.why
    assert phases(old)["large"] in ("draining", "asleep")


def test_a_member_that_was_added_between_offer_and_end_of_a_takeover_has_it_refused(
    serve: Callable[..., Serve], usurp: Any, config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    old = serve(config())
    usurper = usurp(old)
    assert isinstance(usurper.ask(), Offer)
    Cli(old, capsys)("add", "--name", "medium", "--model", "stub", "--strength", "0.5")
    usurper.say(Ready())
    refused = usurper.hear()
    assert isinstance(refused, Refused)
    assert refused.why == "the pool was changed meanwhile; try again"
    assert models(old) == ["auto", "small", "large", "medium"]


def test_no_change_begins_while_a_takeover_is_decided_and_one_does_where_it_comes_to_nothing(
    serve: Callable[..., Serve], usurp: Any, config: Callable[..., Path]
) -> None:
    old = serve(config())
    usurper = usurp(old)
    assert isinstance(usurper.ask(), Offer)
    usurper.say(Ready())
    assert isinstance(usurper.hear(), Go)
    medium = {"name": "medium", "model": "stub", "strength": 0.5}
    for path, body in (("/members", {"member": medium}), ("/members/large/drain", {})):
        with pytest.raises(urllib.error.HTTPError) as refused:
            old.open(path, body, token(old), admin=True)
        with refused.value as answer:
            assert answer.code == 409
            assert b"another process takes over: try again after it" in answer.read()
    usurper.end()
    old.wait_said("this server goes on")
    begin(old, medium)
    wait_until(lambda: models(old) == ["auto", "small", "large", "medium"], lambda: old.errors)


def test_metrics_of_a_promoted_canary_carry_its_name_of_now_after_a_takeover_too(
    serve: Callable[..., Serve],
    taking: Callable[..., Serve],
    config: Callable[..., Path],
    capsys: pytest.CaptureFixture[str],
) -> None:
    page = '# HELP vllm:x X.\n# TYPE vllm:x gauge\nvllm:x{member="next"} 7\n'
    old = serve(config())
    cli, args = Cli(old, capsys), {"metrics": page}
    begin(old, {"name": "next", "model": "stub2", "strength": 0.6, "replaces": "large", "engine_args": args})
    wait_until(lambda: "next" in phases(old))
    cli("promote", "large")
    wait_until(lambda: not members(old)["leaving"])
    assert 'vllm:x{member="large"} 7' in metrics(old)
    file = config(pool=[SMALL, {**LARGE, "model": "stub2", "engine_args": args}])
    new = taking(old, file)
    assert 'vllm:x{member="large"} 7' in metrics(new)
    newest = taking(new, file)
    assert 'vllm:x{member="large"} 7' in metrics(newest)


def metrics(server: Serve) -> str:
    with server.open("/metrics", admin=True) as response:
        page: str = response.read().decode()
    return page
