"""Several engines of one model behind one name, over scripted hosts: what clients and operators see, an engine killed
in a burst, sessions that stay and move, and a life of each engine of its own."""

import concurrent.futures
import json
import os
import signal
import urllib.error
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from router.ipc.response_ids import holder, new_id
from tests.cli.conftest import Serve
from tests.conftest import wait_until

LARGE = {"name": "large", "model": "stub", "strength": 0.6}
WORDS = "the quick brown fox jumps over the lazy dog and runs away "


def small(replicas: Any = 2, **fields: Any) -> dict[str, Any]:
    return {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "replicas": replicas, **fields}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "journal"


@pytest.fixture
def written(config: Callable[..., Path], journal: Path) -> Callable[..., Path]:
    """A config of `small` with several engines, and a journal."""

    def write(*pool: dict[str, Any], **branches: Any) -> Path:
        return config(pool=pool or [small(), LARGE], journal={"path": str(journal), "sync": "record"}, **branches)

    return write


def legs(journal: Path) -> list[list[dict[str, Any]]]:
    """Of each request that has ended, in order."""
    lines = [line for file in sorted(journal.glob("*.jsonl")) for line in file.read_text().splitlines()]
    return [record["legs"] for line in lines if (record := json.loads(line))["type"] == "request"]


def members(server: Serve) -> dict[str, dict[str, Any]]:
    with server.open("/members", admin=True) as response:
        return {one["name"]: one for one in json.loads(response.read())["members"]}


def ask(server: Serve, *script: list[Any], model: str = "small", text: str = "x", **fields: Any) -> Any:
    """Status, and the whole answer."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], **fields}
    if script:
        body["user"] = json.dumps(script)
    try:
        with server.post(body) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def wait_phases(server: Serve, **phases: str) -> None:
    wanted = {name.replace("_", "/"): phase for name, phase in phases.items()}
    wait_until(
        lambda: {name: member["phase"] for name, member in members(server).items()} == wanted,
        lambda: f"{members(server)}\n{server.errors}",
    )


def test_clients_see_one_model_and_operators_each_engine(
    serve: Callable[..., Serve], written: Callable[..., Path], journal: Path
) -> None:
    server = serve(written())
    with server.open("/v1/models") as response:
        assert [card["id"] for card in json.loads(response.read())["data"]] == ["auto", "small", "large"]
    with server.post({"model": "small", "messages": [{"role": "user", "content": "x"}]}) as response:
        assert response.headers["x-headgate-model"] == "small"
        assert json.loads(response.read())["model"] == "small"
    assert ask(server, model="small/0")[0] == 404
    assert [(m["name"], m.get("model", "")) for m in members(server).values()] == [
        ("small/0", "small"), ("small/1", "small"), ("large", "")
    ]  # fmt: skip
    with server.open("/metrics") as response:
        page = response.read().decode()
    for line in ('member_ready{model="small/0"} 1.0', 'member_ready{model="small/1"} 1.0'):
        assert f"headgate_{line}" in page
    assert 'headgate_requests_total{code="200",model="small"' in page or 'model="small"' in page
    assert [(leg["model"], leg["member"], leg["engine"]) for (leg,) in legs(journal)] == [("small", 0, "small/0")]


def test_requests_that_run_at_once_are_spread_over_the_engines(
    serve: Callable[..., Serve], written: Callable[..., Path], journal: Path
) -> None:
    server = serve(written(small(4)))
    with concurrent.futures.ThreadPoolExecutor(32) as threads:
        for status, _ in threads.map(lambda _: ask(server, ["sleep", 1.0], ["echo"], ["done"]), range(32)):
            assert status == 200
    engines = Counter(leg["engine"] for (leg,) in legs(journal))
    assert engines.keys() == {f"small/{i}" for i in range(4)}
    assert max(engines.values()) <= 16


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_killed_in_a_burst_costs_no_client_its_answer_and_every_request_ends_once(
    serve: Callable[..., Serve], written: Callable[..., Path], journal: Path, tmp_path: Path, stream: bool
) -> None:
    server, gate = serve(written()), tmp_path / "gate"
    script = [["await", str(gate)], ["echo"], ["done"]]
    with concurrent.futures.ThreadPoolExecutor(40) as threads:
        burst = [threads.submit(ask, server, *script, stream=stream) for _ in range(40)]
        wait_until(
            lambda: sum(members(server)[f"small/{i}"]["in_flight"] for i in (0, 1)) == 40, lambda: members(server)
        )
        lost = members(server)["small/0"]
        assert lost["in_flight"] > 1
        os.kill(lost["pid"], signal.SIGKILL)
        wait_until(lambda: members(server)["small/1"]["in_flight"] == 40, lambda: members(server))
        with server.open("/ready") as response:
            assert response.status == 200
        gate.touch()
        assert {one.result()[0] for one in burst} == {200}
    ended = legs(journal)
    assert len(ended) == 40
    moved = [each for each in ended if len(each) == 2]
    assert len(moved) == lost["in_flight"]
    for first, second in moved:
        assert (first["engine"], first["lost"], first["retried"]) == ("small/0", True, True)
        assert (second["engine"], second["end"], second["model"]) == ("small/1", "finish", "small")
    wait_phases(server, small_0="ready", small_1="ready", large="ready")
    assert members(server)["small/0"]["restarts"] == 1
    assert {name: member["in_flight"] for name, member in members(server).items()} == dict.fromkeys(members(server), 0)


def test_an_engine_that_fails_a_request_is_followed_by_its_sibling_though_it_still_takes_others(
    serve: Callable[..., Serve], written: Callable[..., Path], journal: Path, tmp_path: Path
) -> None:
    server, once = serve(written()), tmp_path / "once"
    fails = [["fail", 503, "draining", True]]
    status, _ = ask(server, *fails)
    assert status == 503  # both did
    (two,) = legs(journal)
    assert [leg["engine"] for leg in two] == ["small/0", "small/1"]
    assert not once.exists()
    assert ask(server)[0] == 200


def test_a_stored_answer_is_asked_of_the_engine_that_has_it_and_is_gone_with_it(
    serve: Callable[..., Serve], written: Callable[..., Path], journal: Path
) -> None:
    able = {"capabilities": ["chat", "completions", "responses"]}
    server = serve(written(small(3, engine_args=able), LARGE))
    for i in (2, 0, 1):
        id = new_id(holder("small", members(server)[f"small/{i}"]["pid"]))
        server.open(f"/v1/responses/{id}").close()
        server.open("/v1/responses", {"model": "auto", "input": "x", "previous_response_id": id}).close()
    assert [leg["engine"] for (leg,) in legs(journal)] == [f"small/{i}" for i in (2, 2, 0, 0, 1, 1)]
    os.kill(members(server)["small/1"]["pid"], signal.SIGKILL)
    wait_until(lambda: members(server)["small/1"]["restarts"] == 1, lambda: server.errors)
    wait_phases(server, small_0="ready", small_1="ready", small_2="ready", large="ready")
    with pytest.raises(urllib.error.HTTPError) as gone:
        server.open(f"/v1/responses/{id}")
    assert "the engine of 'small', which had stored it, was started anew since" in gone.value.read().decode()


def test_a_model_is_ready_while_one_engine_is_and_a_drained_one_gets_no_requests(
    serve: Callable[..., Serve], written: Callable[..., Path], journal: Path
) -> None:
    server = serve(written())
    operate(server, "small/0/drain")
    assert [ask(server)[0] for _ in range(3)] == [200] * 3
    assert {leg["engine"] for (leg,) in legs(journal)} == {"small/1"}
    operate(server, "small/drain")
    status, answer = ask(server)
    assert (status, json.loads(answer)["error"]["message"]) == (
        503, "model 'small' is not available now (not_ready)"
    )  # fmt: skip
    operate(server, "small/resume")
    assert ask(server)[0] == 200


def operate(server: Serve, path: str, body: Any = None) -> None:
    with server.open("/members", admin=True) as response:
        token = Path(json.loads(response.read())["admin_file"]).read_text()
    server.open(f"/members/{path}", body or {}, {"authorization": f"Bearer {token}"}, admin=True).close()


def test_a_session_stays_where_its_prefix_is_until_that_engine_is_too_busy(
    serve: Callable[..., Serve], written: Callable[..., Path], journal: Path
) -> None:
    server = serve(written(small(3)))
    done = ["done"]
    assert ask(server, ["load", {"running": 1}], done, text="a")[0] == 200  # from now on another engine is idler
    session = WORDS * 100
    for _ in range(3):
        assert ask(server, done, text=session)[0] == 200
    busy = ["load", {"running": 4, "waiting": 40, "prefill_tokens_per_s": 1e3, "time_per_output_token_s": 0.01}]
    assert ask(server, busy, done, text=session)[0] == 200
    assert ask(server, done, text=session)[0] == 200
    engines = [leg["engine"] for (leg,) in legs(journal)]
    assert engines == ["small/0", *["small/1"] * 4, "small/2"]
