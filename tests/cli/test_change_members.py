"""Members of a running server come, go and are replaced while requests stream: none is refused, cut or lost."""

import http.client
import json
import os
import signal
import socket
import threading
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.cli.main import main
from tests.cli.conftest import Serve
from tests.conftest import PATIENCE_S, wait_until

CHAT = {"messages": [{"role": "user", "content": "x"}]}
SMALL = {"name": "small", "model": "stub", "like": "llama-3.1-8b-instruct", "gpu_share": 0.1}
LARGE = {"name": "large", "model": "stub", "strength": 0.6, "gpu_share": 0.9}
#: A stream whose chunks come over a third of a second: requests run at every moment of a change.
STREAM = json.dumps([["chunk", 'data: {"choices": []}\n\n'], ["sleep", 0.3], ["chunk", "data: [DONE]\n\n"], ["done"]])


@pytest.fixture
def server(serve: Callable[..., Serve], config: Callable[..., Path]) -> Serve:
    return serve(config())


class Cli:
    """`headgate members` against one server."""

    def __init__(self, server: Serve, capsys: pytest.CaptureFixture[str]) -> None:
        self._admin = server.admin.removeprefix("http://")
        self._capsys = capsys

    def __call__(self, *words: str) -> str:
        """What it says where it went well."""
        code, out, err = self.run(*words)
        assert code == 0, out + err
        return out

    def run(self, *words: str) -> tuple[int, str, str]:
        self._capsys.readouterr()
        code = main(["members", *words, "--admin", self._admin])
        out, err = self._capsys.readouterr()
        return code, out, err


@pytest.fixture
def cli(server: Serve, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(server, capsys)


def models(server: Serve) -> list[str]:
    with server.open("/v1/models") as response:
        return [card["id"] for card in json.loads(response.read())["data"]]


def members(server: Serve) -> dict[str, Any]:
    with server.open("/members", admin=True) as response:
        told: dict[str, Any] = json.loads(response.read())
    return told


def phases(server: Serve) -> dict[str, str]:
    return {member["name"]: member["phase"] for member in members(server)["members"]}


def asked(server: Serve, model: str = "auto", session: str = "", **fields: Any) -> Any:
    """The answer's headers, and its body read to the end."""
    body = {**CHAT, "model": model, **fields}
    with server.post(body, {"x-session-id": session} if session else None) as response:
        return response.headers, response.read()


def refusal(server: Serve, model: str) -> tuple[int, dict[str, Any]]:
    with pytest.raises(urllib.error.HTTPError) as refused:
        asked(server, model)
    with refused.value as answer:
        return answer.code, json.loads(answer.read())["error"]


class Load:
    """Clients that stream one answer after another, by name and by `auto`, until they are told to stop."""

    def __init__(self, server: Serve, *names: str) -> None:
        self._server = server
        self._over = threading.Event()
        self.faults: list[str] = []
        self.answers: Counter[str] = Counter()
        self._clients = [threading.Thread(target=self._stream, args=(names[i % len(names)], i)) for i in range(8)]
        for client in self._clients:
            client.start()

    def _stream(self, model: str, client: int) -> None:
        """Every second client asks in a way that native code leaves to Python."""
        fields = {"user": STREAM, "stream": True} | ({"logprobs": False} if client % 2 else {})
        while not self._over.is_set():
            try:
                headers, body = asked(self._server, model, **fields)
            except Exception as error:
                self.faults.append(f"{model}: {error!r}")
                return
            if not body.endswith(b"data: [DONE]\n\n") or b"error" in body:
                self.faults.append(f"{model}: {body!r}")
            self.answers[headers["x-headgate-model"]] += 1

    def waited(self, name: str, count: int = 1) -> None:
        """Until so many more were answered by `name`."""
        wanted = self.answers[name] + count
        wait_until(lambda: self.faults or self.answers[name] >= wanted, lambda: str((self.answers, self.faults)))

    def end(self) -> None:
        self._over.set()
        for client in self._clients:
            client.join(PATIENCE_S)


@pytest.fixture
def load(server: Serve) -> Iterator[Callable[..., Load]]:
    begun: list[Load] = []

    def begin(*names: str) -> Load:
        begun.append(Load(server, *names))
        return begun[-1]

    yield begin
    for each in begun:
        each.end()


def test_under_load_members_are_added_replaced_promoted_and_removed_without_a_failed_request(
    server: Serve, cli: Cli, load: Callable[..., Load], tmp_path: Path
) -> None:
    requests = load("small", "auto", "large", "auto")
    requests.waited("small")
    requests.waited("large")
    cli("add", "--name", "medium", "--model", "stub", "--strength", "0.5")
    assert models(server) == ["auto", "small", "large", "medium"]
    assert asked(server, "medium")[0]["x-headgate-model"] == "medium"
    before = {member["name"]: member["pid"] for member in members(server)["members"]}
    cli("replace", "small", "--model", "stub2", "--like", "llama-3.1-8b-instruct")
    after = {member["name"]: member["pid"] for member in members(server)["members"]}
    assert before["small"] != after["small"]
    assert (before["large"], before["medium"]) == (after["large"], after["medium"])
    requests.waited("small", 3)
    canary = tmp_path / "canary.yaml"
    canary.write_text(json.dumps({"name": "large-2", "model": "stub", "replaces": "large", "weight": 0.5}))
    cli("add", str(canary))
    requests.waited("large-2", 3)
    requests.waited("large", 3)
    cli("promote", "large")
    assert models(server) == ["auto", "small", "large", "medium"]
    requests.waited("large", 3)
    cli("remove", "medium")
    assert models(server) == ["auto", "small", "large"]
    requests.waited("small", 3)
    requests.end()
    assert requests.faults == []
    told = members(server)
    assert [change["cut"] for change in told["changes"]] == [0] * 5
    assert {change["stage"] for change in told["changes"]} == {"done"}
    assert told["leaving"] == []


def test_a_member_that_was_removed_is_not_found_and_its_engine_has_ended(server: Serve, cli: Cli) -> None:
    (pid,) = [member["pid"] for member in members(server)["members"] if member["name"] == "large"]
    assert cli("remove", "large") == "remove large: done\n"
    status, error = refusal(server, "large")
    assert (status, error["code"]) == (404, "model_not_found")
    wait_until(lambda: not Path(f"/proc/{pid}").exists())
    assert asked(server)[0]["x-headgate-model"] == "small"


def test_a_running_answer_of_a_removed_member_ends_before_its_engine(server: Serve, cli: Cli) -> None:
    with server.post({**CHAT, "model": "large", "user": STREAM.replace("0.3", "1.5"), "stream": True}) as response:
        cli("remove", "large")
        assert response.read().endswith(b"[DONE]\n\n")
    assert members(server)["changes"][-1]["cut"] == 0


def test_what_does_not_end_in_time_is_cut_with_an_error_and_counted(
    serve: Callable[..., Serve], config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(config(server={"port": 0, "admin_port": 0, "limits": {"drain_s": 0.2}}))
    script = json.dumps([["chunk", 'data: {"choices": []}\n\n'], ["sleep", 60]])
    with server.post({**CHAT, "model": "large", "user": script, "stream": True}) as response:
        out = Cli(server, capsys)("remove", "large")
        assert out == "remove large: done; 1 requests had not ended in time\n"
        assert b'"code":"engine_failed"' in response.read()


def test_one_that_has_not_begun_when_its_time_is_over_is_answered_by_the_successor(
    serve: Callable[..., Serve], config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(config(server={"port": 0, "admin_port": 0, "limits": {"drain_s": 0.2}}))
    reasons: list[str] = []
    script = json.dumps([["sleep", 3.0], ["echo"], ["done"]])  # in the one as in the other

    def ask() -> None:
        reasons.append(asked(server, "large", user=script)[0]["x-headgate-reason"])

    client = threading.Thread(target=ask)
    client.start()
    wait_until(lambda: members(server)["members"][1]["in_flight"])
    out = Cli(server, capsys)("replace", "large", "--model", "stub2", "--strength", "0.6")
    assert out == "replace large: done; 1 requests had not ended in time\n"
    client.join(PATIENCE_S)
    assert reasons == ["retry"]


def test_a_new_engine_that_does_not_start_leaves_all_as_it_was_and_says_why(server: Serve, cli: Cli) -> None:
    before = members(server)["members"]
    for words in (("add", "--name", "medium"), ("replace", "small")):
        code, _, err = cli.run(*words, "--model", "stub", "--engine-arg", "fail=no such weights")
        assert code == 1
        assert "failed to start: no such weights; the pool is as it was" in err
    after = members(server)["members"]
    assert [(member["name"], member["pid"]) for member in after] == [(m["name"], m["pid"]) for m in before]
    assert models(server) == ["auto", "small", "large"]
    assert asked(server, "small")[0]["x-headgate-model"] == "small"


def test_a_replacement_that_is_never_ready_leaves_the_old_one_in_its_place(
    serve: Callable[..., Serve], config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(config(supervision={"start_timeout_s": 3.0, "stop_timeout_s": 1.0}))
    code, _, err = Cli(server, capsys).run("replace", "large", "--model", "stub2", "--engine-arg", "silent=true")
    assert code == 1
    assert "it was not ready within 3 s" in err
    assert asked(server, "large")[0]["x-headgate-model"] == "large"
    wait_until(lambda: len(server.children()) == 2, lambda: str(server.children()))


def test_a_change_whose_engine_still_starts_can_be_cancelled(server: Serve, cli: Cli) -> None:
    begin(server, {"name": "medium", "model": "stub", "engine_args": {"slow_s": 60.0}})
    wait_until(lambda: len(server.children()) == 3, lambda: str(server.children()))
    assert cli("cancel") == "add medium: it was cancelled; the pool is as it was\n"
    assert len(server.children()) == 2
    code, _, err = cli.run("cancel")
    assert (code, err) == (1, "headgate: error: no change of the pool is under way\n")
    cli("add", "--name", "medium", "--model", "stub")
    assert "medium" in models(server)


def test_a_drained_member_gets_no_requests_until_it_is_resumed(server: Serve, cli: Cli) -> None:
    assert asked(server)[0]["x-headgate-model"] == "large"
    cli("drain", "large")
    assert phases(server)["large"] == "draining"
    assert asked(server)[0]["x-headgate-model"] == "small"
    assert refusal(server, "large")[0] == 503
    assert "large" in models(server)
    cli("resume", "large")
    assert phases(server)["large"] == "ready"
    assert asked(server)[0]["x-headgate-model"] == "large"


def test_draining_returns_when_the_running_requests_have_ended(server: Serve, cli: Cli) -> None:
    script = STREAM.replace("0.3", "1.5")
    with server.post({**CHAT, "model": "large", "user": script, "stream": True}) as response:
        code, _, err = cli.run("drain", "large")
        assert (code, err) == (0, "drain large: 1 requests are not over\n")
        assert response.read().endswith(b"[DONE]\n\n")


def test_a_canary_takes_its_share_by_name_and_by_choice_and_a_session_stays_on_one_side(
    server: Serve, cli: Cli
) -> None:
    cli("add", "--name", "large-2", "--model", "stub", "--replaces", "large", "--weight", "0.3", "--strength", "0.9")
    for model in ("large", "auto"):
        for fields in ({}, {"logprobs": False}):  # natively, and in Python
            taken = Counter(asked(server, model, **fields)[0]["x-headgate-model"] for _ in range(100))
            assert taken.keys() == {"large", "large-2"}
            assert 10 <= taken["large-2"] <= 60
    sides = {}
    for session in map(str, range(12)):
        told = {asked(server, "auto", session, **({"logprobs": False} if i % 2 else {}))[0]["x-headgate-model"]
                for i in range(4)}  # fmt: skip
        assert len(told) == 1
        sides[session] = told.pop()
    assert set(sides.values()) == {"large", "large-2"}
    headers, body = asked(server, "large-2")
    assert headers["x-headgate-reason"] == "pinned"
    assert json.loads(body)["model"] == "large"  # as which it answers
    with server.open("/metrics", admin=True) as response:
        page = response.read().decode()
    assert 'headgate_decisions_total{model="large-2",reason="canary"}' in page
    cli("rollback", "large")
    assert models(server) == ["auto", "small", "large"]
    assert {asked(server, "large")[0]["x-headgate-model"] for _ in range(40)} == {"large"}


def test_a_canary_that_fails_before_its_first_byte_costs_no_request_to_its_member(server: Serve, cli: Cli) -> None:
    cli("add", "--name", "large-2", "--model", "stub", "--replaces", "large", "--weight", "1.0")
    (pid,) = [member["pid"] for member in members(server)["members"] if member["name"] == "large-2"]
    assert asked(server, "large")[0]["x-headgate-model"] == "large-2"
    script = json.dumps([["fail", 500, "engine_failed", True]])
    with pytest.raises(urllib.error.HTTPError) as failed:  # its script fails on both; that it was tried on both counts
        asked(server, "large", user=script)
    failed.value.close()
    with server.open("/metrics", admin=True) as response:
        assert 'headgate_decisions_total{model="large",reason="retry"} 1.0' in response.read().decode()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: phases(server)["large-2"] != "ready")
    assert asked(server, "large")[0]["x-headgate-model"] == "large"


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("remove", "medium"), "no member 'medium'; there are small, large"),
        (("promote", "small"), "'small' has no canary; `add` one with `replaces: small`"),
        (("add", "--name", "small", "--model", "x"), "there is a member 'small' already; `replace` puts another"),
        (("add", "--name", "auto", "--model", "x"), "'auto' cannot name a member"),
        (("add", "--name", "m", "--model", "x", "--replaces", "medium"), "expected a member that is no canary itself"),
        (
            ("add", "--name", "m", "--model", "x", "--replaces", "small", "--weight", "7"),
            "expected 0.001 to 1, got 7.0",
        ),
        (("replace", "small", "--name", "large", "--model", "x"), "there is another member 'large'"),
    ],
)
def test_what_cannot_be_done_is_refused_and_changes_nothing(
    server: Serve, cli: Cli, words: tuple[str, ...], why: str
) -> None:
    code, _, err = cli.run(*words)
    assert code == 1
    assert why in err
    assert phases(server) == {"small": "ready", "large": "ready"}


def test_the_last_member_that_takes_requests_cannot_be_removed_nor_stopped_first(server: Serve, cli: Cli) -> None:
    cli("drain", "small")
    for words in (("remove", "large"), ("replace", "large", "--model", "x", "--stop-first")):
        code, _, err = cli.run(*words)
        assert code == 1
        assert "no other member of the pool takes requests" in err


def test_stopped_first_the_old_engine_has_ended_before_the_new_one_starts(
    server: Serve, cli: Cli, tmp_path: Path
) -> None:
    (pid,) = [member["pid"] for member in members(server)["members"] if member["name"] == "large"]
    cli("replace", "large", "--model", "stub2", "--strength", "0.6", "--stop-first")
    assert not Path(f"/proc/{pid}").exists()
    assert asked(server, "large")[0]["x-headgate-model"] == "large"
    code, _, err = cli.run("replace", "large", "--model", "stub3", "--stop-first", "--engine-arg", "fail=no memory")
    assert code == 1
    assert "'large' is started again" in err
    wait_until(lambda: phases(server)["large"] == "ready", lambda: str(phases(server)))
    assert asked(server, "large")[0]["x-headgate-model"] == "large"


def test_stopped_first_and_cancelled_while_it_still_answers_the_old_engine_was_never_stopped(
    server: Serve, cli: Cli, tmp_path: Path
) -> None:
    pid, go_on = members(server)["members"][1]["pid"], tmp_path / "go on"
    script = [["chunk", "data: a\n\n"], ["await", str(go_on)], ["chunk", "data: [DONE]\n\n"], ["done"]]
    with server.post({**CHAT, "model": "large", "user": json.dumps(script), "stream": True}) as response:
        assert response.readline() == b"data: a\n"
        wanted = {"member": {"model": "stub2"}, "stop_first": True}
        server.open("/members/large/replace", wanted, token(server), admin=True).close()
        wait_until(lambda: members(server)["changes"][-1]["stage"] == "stopping")
        assert "it was cancelled; the pool is as it was" in cli("cancel")
        assert asked(server, "large")[0]["x-headgate-model"] == "large"
        go_on.touch()
        assert b"[DONE]" in response.read()
    (large,) = [member for member in members(server)["members"] if member["name"] == "large"]
    assert (large["pid"], large["phase"], large["restarts"]) == (pid, "ready", 0)


def test_a_change_is_refused_until_all_members_have_been_started_and_a_sighup_is_done_then(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    slow = {**LARGE, "engine_args": {"slow_s": 4.0}}
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    doors = {"port": 0, "admin_port": port}
    server = serve(config(pool=[SMALL, slow], server=doors), ready=False)
    wait_until(lambda: len(server.children()) == 2, lambda: server.errors)
    server.admin = f"http://127.0.0.1:{port}"
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.open("/members/large/drain", {}, token(server), admin=True)
    with refused.value as answer:
        assert answer.code == 409
        assert b"the members are still being started: try again after it" in answer.read()
    config(pool=[SMALL, slow, {"name": "medium", "model": "stub", "strength": 0.5}], server=doors)
    server.signal(signal.SIGHUP)
    server.wait_said("SIGHUP: the file is read again once this server serves")
    while server.next_event()["event"] != "serving":
        pass
    server.url = server.events[-1]["url"]
    wait_until(lambda: models(server) == ["auto", "small", "large", "medium"], lambda: server.errors)


def test_a_pool_of_urls_takes_requests_natively_once_an_engine_has_joined_and_no_more_once_it_has_left(
    serve: Callable[..., Serve], config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    upstream = serve(config())
    far = {"name": "far", "kind": "openai", "url": upstream.url, "model": "large", "strength": 0.7}
    server = serve(config(pool=[far]))
    cli = Cli(server, capsys)

    def steps() -> tuple[float, ...]:
        """Requests that found no engine in the pool, were handed over natively, and left at the choice of a URL."""
        with server.open("/metrics", admin=True) as response:
            lines = response.read().decode().splitlines()
        rows = [line.rpartition(" ") for line in lines if line.startswith("headgate_steps_total")]
        wanted = ('native="false",step="head",why="no_engine"', 'native="true",step="frame"', 'why="url"')
        return tuple(sum(float(count) for labels, _, count in rows if each in labels) for each in wanted)

    def told(*counts: float) -> None:
        wait_until(lambda: steps() == counts, steps)  # the page is made once a second at most

    def ask(model: str) -> None:
        """As clients do that keep their connection: one that says `close` is not read natively."""
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=PATIENCE_S)
        answer = {"object": "chat.completion", "model": model, "choices": [{"index": 0, "finish_reason": "stop"}]}
        body = json.dumps({**CHAT, "model": model, "user": json.dumps([["chunk", json.dumps(answer)], ["done"]])})
        connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
        response = connection.getresponse()
        assert (response.status, response.headers["x-headgate-model"]) == (200, model), response.read()
        connection.close()

    ask("far")
    told(1, 0, 0)
    cli("add", "--name", "near", "--model", "stub", "--strength", "0.5")
    ask("near")
    ask("far")
    told(1, 1, 1)
    cli("remove", "near")
    ask("far")
    told(2, 1, 1)


@pytest.mark.parametrize("depth", [500, 100_000])
def test_a_member_that_is_nested_too_deeply_is_refused_as_such(server: Serve, depth: int) -> None:
    body = b'{"member": {"name": "m", "model": "x", "engine_args": {"a": %s}}}' % (b"[" * depth + b"]" * depth)
    request = urllib.request.Request(f"{server.admin}/members", body, token(server))
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(request, timeout=PATIENCE_S)
    with refused.value as answer:
        assert (answer.code, b"nested too deeply" in answer.read()) == (400, True)
    assert "Traceback" not in server.errors
    assert models(server) == ["auto", "small", "large"]


def test_two_changes_at_once_the_second_is_refused(server: Serve, cli: Cli) -> None:
    first = threading.Thread(
        target=lambda: begin(server, {"name": "medium", "model": "stub", "engine_args": {"slow_s": 2.0}})
    )
    first.start()
    wait_until(lambda: members(server)["joining"])
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.open("/members/small/replace", {"member": {"model": "x"}}, token(server), admin=True)
    with refused.value as answer:
        error = json.loads(answer.read())["error"]
        assert (answer.code, error["code"]) == (409, "change_under_way")
        assert "add medium, starting" in error["message"]
    first.join(PATIENCE_S)
    wait_until(lambda: "medium" in models(server))


def token(server: Serve) -> dict[str, str]:
    return {"authorization": f"Bearer {Path(members(server)['admin_file']).read_text()}"}


def begin(server: Serve, member: dict[str, Any]) -> None:
    server.open("/members", {"member": member}, token(server), admin=True).close()


def test_who_cannot_read_the_servers_token_changes_nothing(server: Serve) -> None:
    paths = ["/members", "/changes", "/members/small"]
    paths += [f"/members/small/{verb}" for verb in ("replace", "drain", "resume", "promote", "rollback")]
    for path in paths:
        method = "DELETE" if path in ("/changes", "/members/small") else "POST"
        for headers in ({}, {"authorization": "Bearer x"}):
            body = json.dumps({"member": {"name": "m", "model": "x"}}).encode() if method == "POST" else None
            request = urllib.request.Request(server.admin + path, body, headers, method=method)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=PATIENCE_S)
            with refused.value as answer:
                assert answer.code == 403, path
                assert b"expected `authorization: Bearer ...` with what" in answer.read()
    told = members(server)
    assert Path(told["admin_file"]).stat().st_mode & 0o777 == 0o600
    assert [(each["name"], each["phase"]) for each in told["members"]] == [("small", "ready"), ("large", "ready")]
    assert told["changes"] == []
    assert asked(server, "small")[0]["x-headgate-model"] == "small"


def test_vllms_routes_of_an_engine_want_no_token(server: Serve) -> None:
    server.open("/members/small/reset_prefix_cache", {}, admin=True).close()
    server.open("/members/small/sleep", {}, admin=True).close()
    assert phases(server)["small"] == "asleep"
    server.open("/members/small/wake_up", {}, admin=True).close()
    assert phases(server)["small"] == "ready"


def test_a_drain_wants_no_token_and_ends_the_server(server: Serve) -> None:
    with server.open("/drain", {}, admin=True) as response:
        assert json.load(response)["status"] == "draining"
    code, errors = server.end()
    assert (code, "Traceback" in errors) == (0, False), errors


def test_sigterm_while_a_member_starts_ends_in_order(server: Serve) -> None:
    begin(server, {"name": "medium", "model": "stub", "engine_args": {"slow_s": 60.0}})
    wait_until(lambda: len(server.children()) == 3, lambda: str(server.children()))
    server.signal(signal.SIGTERM)
    code, errors = server.end()
    assert code == 0
    assert "Traceback" not in errors
    server.wait_childless()


def test_sighup_does_to_the_pool_what_the_file_says_now(
    serve: Callable[..., Serve], config: Callable[..., Path]
) -> None:
    server = serve(config())
    pids = {member["name"]: member["pid"] for member in members(server)["members"]}
    config(pool=[{**LARGE, "usd_per_hour": 3.0}, {"name": "medium", "model": "stub", "strength": 0.5}])
    server.signal(signal.SIGHUP)
    wait_until(lambda: models(server) == ["auto", "large", "medium"], lambda: str((models(server), server.errors)))
    assert {member["name"]: member["pid"] for member in members(server)["members"]}["large"] == pids["large"]
    with server.open("/config", admin=True) as response:
        assert json.loads(response.read())["pool"][0]["usd_per_hour"] == 3.0
    config(pool=[LARGE, {"name": "medium", "model": "other", "strength": 0.5, "engine_args": {"fail": "no"}}])
    server.signal(signal.SIGHUP)
    server.wait_said("the pool stays as it was (reload): engine 'medium' failed to start: no")
    config(pool=[LARGE, {"name": "medium", "model": "stub", "replaces": "nobody"}])
    server.signal(signal.SIGHUP)
    server.wait_said("SIGHUP: nothing was changed")
    assert models(server) == ["auto", "large", "medium"]
    assert asked(server, "medium")[0]["x-headgate-model"] == "medium"


def test_the_ledger_says_which_of_the_two_answered(
    serve: Callable[..., Serve], config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    canary = {"name": "large-2", "model": "stub", "replaces": "large", "weight": 1.0}
    server = serve(config(pool=[SMALL, LARGE, canary], journal={"path": str(tmp_path / "journal")}))
    asked(server, "large")
    asked(server, "large", logprobs=False)

    def lines() -> list[dict[str, Any]]:
        files = sorted((tmp_path / "journal").glob("*.jsonl"))
        told = [json.loads(line) for file in files for line in file.read_text().splitlines()]
        return [line for line in told if line["type"] == "request"]

    wait_until(lambda: len(lines()) == 2)
    for line in lines():
        assert (line["asked"], line["model"], line["legs"][0]["model"]) == ("large", "large-2", "large-2")
        assert line["decision"]["reason"] == "canary"
        assert 0 < line["decision"]["numbers"]["question"]["draw"] <= 1
        assert line["decision"]["numbers"]["members"]["canary_weight"] == [0, 0, 1.0]
    capsys.readouterr()
    assert main(["journal", "replay", str(tmp_path / "journal"), "--config", str(tmp_path / "headgate.yaml")]) == 0
    assert "2" in capsys.readouterr().out
