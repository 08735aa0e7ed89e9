"""The engines of one model over their lives, over scripted hosts: changed while they serve, handed over, asleep,
restarted, given adapters."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.cli.main import main
from tests.cli.conftest import Serve
from tests.cli.test_replicas import LARGE, ask, members, operate, small, wait_phases
from tests.conftest import wait_until


def pids(server: Serve) -> dict[str, int]:
    return {name: member["pid"] for name, member in members(server).items()}


def change(server: Serve, *words: str) -> None:
    assert main(["members", *words, "--admin", server.admin.removeprefix("http://")]) == 0


def engines_of(server: Serve) -> list[str]:
    return [name for name in members(server) if name.startswith("small")]


def wait_engines(server: Serve, *names: str) -> None:
    wait_until(lambda: engines_of(server) == list(names), lambda: f"{members(server)}\n{server.errors}")


def test_sighup_starts_and_ends_as_many_as_the_file_says_and_the_others_go_on(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    server = serve(config(pool=[small(2), LARGE]))
    before = pids(server)
    config(pool=[small(3), LARGE])
    server.signal(signal.SIGHUP)
    wait_until(lambda: len(pids(server)) == 4, lambda: server.errors)
    grown = pids(server)
    assert {name: grown[name] for name in before} == before
    config(pool=[small(1), LARGE])
    server.signal(signal.SIGHUP)
    wait_engines(server, "small")
    assert pids(server)["small"] == before["small/0"]
    assert ask(server)[0] == 200
    config(pool=[small(2), LARGE])
    server.signal(signal.SIGHUP)
    wait_until(lambda: sorted(engines_of(server)) == ["small/0", "small/1"], lambda: server.errors)
    assert pids(server)["small/0"] == before["small/0"]
    assert ask(server)[0] == 200
    with server.open("/v1/models") as response:
        assert sorted(card["id"] for card in json.loads(response.read())["data"]) == ["auto", "large", "small"]


def test_a_model_with_several_engines_is_added_replaced_and_removed_as_one(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(config(pool=[LARGE]))
    file = tmp_path / "small.yaml"
    file.write_text(json.dumps(small(2)))
    change(server, "add", str(file))
    assert list(members(server)) == ["large", "small/0", "small/1"]
    assert ask(server)[0] == 200
    before = pids(server)
    file.write_text(json.dumps(small(3)))
    change(server, "replace", "small", str(file))
    assert list(members(server)) == ["large", "small/0", "small/1", "small/2"]
    assert not before.keys() - {"large"} & {name for name, pid in pids(server).items() if before.get(name) == pid}
    capsys.readouterr()
    assert main(["members", "remove", "small/1", "--admin", server.admin.removeprefix("http://")]) == 1
    assert "'small/1' is one of several engines of 'small'" in capsys.readouterr().err
    change(server, "replace", "small", str(file), "--stop-first")
    assert ask(server)[0] == 200
    change(server, "remove", "small")
    assert list(members(server)) == ["large"]
    assert ask(server)[0] == 404


def test_a_canary_of_several_engines_takes_the_place_of_a_model_of_several(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path
) -> None:
    canary = {"name": "next", "model": "stub", "strength": 0.5, "replicas": 2, "replaces": "small", "weight": 1.0}
    server = serve(config(pool=[small(2), LARGE, canary]))
    with server.post({"model": "small", "messages": [{"role": "user", "content": "x"}]}) as response:
        assert response.headers["x-headgate-model"] == "next"
        assert json.loads(response.read())["model"] == "small"
    heirs = [pids(server)[f"next/{i}"] for i in (0, 1)]
    change(server, "promote", "small")
    wait_engines(server, "small/0", "small/1")
    assert [pids(server)[f"small/{i}"] for i in (0, 1)] == heirs
    assert ask(server)[0] == 200


def test_a_takeover_hands_every_engine_over(
    serve: Callable[..., Serve], taking: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    file = config(pool=[small(2), LARGE])
    old = serve(file)
    operate(old, "small/1/drain")
    hosts = pids(old)
    new = taking(old, file)
    assert pids(new) == hosts
    wait_phases(new, small_0="ready", small_1="draining", large="ready")
    assert ask(new)[0] == 200
    assert old.end()[0] == 0


def lose(server: Serve, name: str) -> None:
    """Until the server knows."""
    before = members(server)[name]
    os.kill(before["pid"], signal.SIGKILL)
    wait_until(lambda: members(server)[name]["restarts"] > before["restarts"] or not members(server)[name]["pid"])


def test_an_engine_that_is_lost_is_started_again_while_the_other_answers(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    server = serve(config(pool=[small(2)]))
    for name in ("small/0", "small/1"):
        lose(server, name)
        assert ask(server)[0] == 200
        wait_phases(server, small_0="ready", small_1="ready")


def test_engines_sleep_one_by_one_and_wake_for_a_request(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    server = serve(config(pool=[small(2, sleep={"after_s": 1}), LARGE]))
    wait_phases(server, small_0="parked", small_1="parked", large="ready")
    assert ask(server)[0] == 200
    assert sorted(members(server)[f"small/{i}"]["phase"] for i in (0, 1)) == ["parked", "ready"]


def loaded(server: Serve, path: str, body: Any) -> str:
    with server.open(path, body, admin=True) as response:
        return str(response.read().decode())


def test_an_adapter_is_loaded_into_every_engine_answers_by_its_name_and_comes_back_with_a_restart(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    server = serve(config(pool=[small(2, engine_args={"enable_lora": True}), LARGE]))
    loaded(server, "/members/small/v1/load_lora_adapter", {"lora_name": "sql", "lora_path": "/adapters/sql"})
    assert [member.get("adapters") for member in members(server).values()] == [["sql"], ["sql"], []]
    lose(server, "small/0")
    wait_phases(server, small_0="ready", small_1="ready", large="ready")
    assert members(server)["small/0"]["adapters"] == ["sql"]
    for drained in ("small/0", "small/1"):
        operate(server, f"{drained}/drain")
        assert json.loads(ask(server, model="sql")[1])["adapter"] == "sql"
        operate(server, f"{drained}/resume")
    loaded(server, "/members/small/v1/unload_lora_adapter", {"lora_name": "sql"})
    assert ask(server, model="sql")[0] == 404


def test_vllms_routes_act_on_all_engines_of_a_model_and_questions_and_adapters_ask_for_the_right_name(
    serve: Callable[..., Serve], config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(config(pool=[small(2, engine_args={"enable_lora": True}), LARGE]))
    loaded(server, "/members/small/sleep", {})
    wait_phases(server, small_0="asleep", small_1="asleep", large="ready")
    loaded(server, "/members/small%2F1/wake_up", {})
    wait_phases(server, small_0="asleep", small_1="ready", large="ready")
    for path, body, why in (
        (
            "/members/small/is_sleeping",
            None,
            "has several engines, of which one can be asked this: small/0, small/1",
        ),
        ("/members/small/1/v1/load_lora_adapter", {"lora_name": "a", "lora_path": "/a"}, "'small/1' is one of several"),
    ):
        with pytest.raises(OSError) as refused:
            server.open(path, body, admin=True)
        assert why in refused.value.read().decode()  # type: ignore[attr-defined]
