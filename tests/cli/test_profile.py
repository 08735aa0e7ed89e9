"""`headgate profile`: what it asks of which engines, when it refuses, and what it says at the end."""

import json
import random
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from router.cli.main import main
from router.cli.profile_plan import Target, plan, prompt

COST = {"windows": 7, "cut": 1, "step_s": 0.0041, "running_s": 5e-5, "error_window": 0.07, "cost_trust": 0.9}


class Server:
    """Public and admin port in one; `asked`: the bodies of chats, by member."""

    def __init__(self) -> None:
        self.members = [self.member("small", COST), self.member("large", {}), self.member("url", None)]
        self.asked: dict[str, list[dict[str, Any]]] = {}
        self.most: dict[str, int] = {}
        self.status, self.busy, self.keys = 200, 0, set[str]()
        self._running: dict[str, int] = {}
        self._lock = threading.Lock()
        house = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                members = [{**each, "in_flight": house.busy} for each in house.members]
                self.answer(200, {"members": members})

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                assert self.path == "/v1/chat/completions"
                house.begin(body, self.headers.get("authorization", ""))
                house.end(body)  # before the client can know
                self.answer(house.status, {"error": {"message": "too bad"}} if house.status != 200 else {"choices": []})

            def answer(self, status: int, value: object) -> None:
                text = json.dumps(value).encode()
                self.send_response(status)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @staticmethod
    def member(name: str, cost: dict[str, Any] | None) -> dict[str, Any]:
        state = {"ready": True, "context_tokens": 1_000, "capabilities": ["chat"]}
        return {"name": name, "kind": "engine", "phase": "ready", "state": state, "cost": cost}

    def begin(self, body: dict[str, Any], key: str) -> None:
        with self._lock:
            name = body["model"]
            self.keys.add(key)
            self.asked.setdefault(name, []).append(body)
            self._running[name] = self._running.get(name, 0) + 1
            self.most[name] = max(self.most.get(name, 0), self._running[name])

    def end(self, body: dict[str, Any]) -> None:
        with self._lock:
            self._running[body["model"]] -= 1

    def profile(self, *words: str) -> int:
        return main(["profile", "--url", f"http://{self.address}", "--admin", self.address, "--seconds", "5", *words])


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.http.shutdown()
    made.http.server_close()


def test_every_engine_is_asked_and_its_model_told(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HEADGATE_API_KEY", "secret")
    assert server.profile("--json", "--streams", "4") == 0
    told = json.loads(capsys.readouterr().out)
    assert set(server.asked) == set(told["members"]) == {"small", "large"}
    assert told["members"]["small"]["step_s"] == 0.0041
    assert (told["failed"], told["beside_traffic"]) == (0, False)
    assert told["requests"] == sum(map(len, server.asked.values()))
    assert max(server.most.values()) <= 4
    assert server.keys == {"Bearer secret"}
    bodies = server.asked["small"]
    assert len({body["max_tokens"] for body in bodies}) == 3
    assert all(body["ignore_eos"] for body in bodies)
    texts = [body["messages"][0]["content"] for body in bodies]
    assert len({text.split()[0] for text in texts}) > len(texts) * 0.9


def test_a_table_is_shown_where_no_json_is_asked_for_and_only_of_the_member_asked_for(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    assert server.profile("--member", "small", "--streams", "1") == 0
    out = capsys.readouterr().out
    assert set(server.asked) == {"small"}
    line = next(line for line in out.splitlines() if line.startswith("small"))
    assert line.split()[1:3] == ["4.100", "50.0"]
    assert "requests were answered, 0 failed" in out
    assert "large" not in out


def test_beside_live_traffic_it_refuses_and_asks_nothing(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    server.busy = 2
    assert server.profile() == 1
    assert "6 requests of others are under way" in capsys.readouterr().err
    assert server.asked == {}


def test_told_to_go_on_beside_live_traffic_it_warns_and_says_so(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.busy = 1
    assert server.profile("--beside-traffic", "--json", "--streams", "1", "--member", "small") == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["beside_traffic"] is True
    assert "warning: others ask the server too" in printed.err


def test_an_engine_that_answers_nothing_ends_it_with_what_it_said(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    server.status = 503
    assert server.profile("--streams", "1") == 1
    error = capsys.readouterr().err
    assert "failed 3 requests one after another; the last: status 503" in error
    assert "too bad" in error


@pytest.mark.parametrize(
    ("words", "code", "why"),
    [
        (["--member", "url"], 2, "--member: expected one of small, large, got 'url'"),
        (["--url", "ftp://x"], 2, "--url: expected http://HOST:PORT, got 'ftp://x'"),
        (["--url", "http://x:y"], 2, "--url: expected http://HOST:PORT, got 'http://x:y'"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    server: Server, capsys: pytest.CaptureFixture[str], words: list[str], code: int, why: str
) -> None:
    assert server.profile(*words) == code
    assert why in capsys.readouterr().err


def test_a_server_without_a_ready_engine_has_nothing_to_profile(
    server: Server, capsys: pytest.CaptureFixture[str]
) -> None:
    for member in server.members:
        member["state"]["ready"] = False
    assert server.profile() == 1
    assert "there is nothing to profile" in capsys.readouterr().err


# The plan


def test_the_phases_take_the_time_that_was_asked_for_and_vary_prompts_batches_and_neighbours() -> None:
    phases = plan([Target("a", 100_000), Target("b", 600)], 60.0, 16)
    assert sum(phase.seconds for phase in phases) == pytest.approx(60.0)
    alone = [phase for phase in phases if phase.members == ("a",)]
    assert {phase.streams for phase in alone} == {1, 2, 4, 8, 16}
    assert {phase.words for phase in alone} == {32, 128, 512, 2_048}
    assert {phase.words for phase in phases if phase.members == ("b",)} == {32, 84}
    assert [phase.streams for phase in phases if phase.members == ("a", "b")] == [1, 4]


def test_one_engine_is_never_asked_together_with_another() -> None:
    phases = plan([Target("a")], 10.0, 2)
    assert {phase.members for phase in phases} == {("a",)}
    assert max(phase.streams for phase in phases) == 2


def test_prompts_have_the_words_asked_for_and_begin_like_no_other() -> None:
    source = random.Random(1)
    prompts = [prompt(20, source) for _ in range(50)]
    assert {len(text.split()) for text in prompts} == {20}
    assert len({text.split()[0] for text in prompts}) == 50
