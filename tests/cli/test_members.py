"""`headgate members`: what it shows of a server's answer, and what it says where there is none."""

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import get_args

import pytest

from router.cli.main import main
from router.pool.base import MemberPhase

Serve = Callable[..., str]


def member(name: str, phase: str, **more: object) -> dict[str, object]:
    state = {"ready": phase == "ready", "breaker_open": False, "running": 3, "waiting": 1, "kv_use": 0.256, "new": 1}
    return {"name": name, "kind": "engine", "phase": phase, "state": state, "in_flight": 4, "of_later": [1], **more}


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Answers every GET with what it is given; returns HOST:PORT."""
    servers: list[ThreadingHTTPServer] = []

    def one(body: bytes, status: int = 200) -> str:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                assert self.path == "/members"
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Handler))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"127.0.0.1:{servers[-1].server_address[1]}"

    yield one
    for server in servers:
        server.shutdown()
        server.server_close()


def told(*members: dict[str, object]) -> bytes:
    return json.dumps({"members": members}).encode()


def test_every_phase_is_shown_with_load_restarts_and_last_error(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    phases = get_args(MemberPhase)
    place = {"devices": ["0", "1"], "memory_share": 0.45, "usd_per_hour": 2.25}
    broken = {"restarts": 7, "last_error": "[red]out of\x1b memory", **place}
    members = [member(f"m-{phase}", phase, **broken) for phase in phases]
    assert main(["members", "--admin", serve(told(*members))]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    assert " ".join(head.split()) == "member state devices in flight running waiting KV restarts USD/hour last error"
    rest = ["0,1,", "45", "%", "4", "3", "1", "26", "%", "7", "2.25", "[red]out", "of", "memory"]
    expected = [[f"m-{phase}", phase, *rest] for phase in phases]
    assert [line.split() for line in lines] == expected


def test_a_start_is_shown_with_stage_per_cent_and_time_left_where_known_and_an_open_breaker_too(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    start = {"stage": "loading weights", "percent": 42, "elapsed_s": 20.0, "left_s": 31.4}
    broken = member("c", "ready")
    broken["state"] = {"ready": True, "breaker_open": True}
    members = (member("a", "starting", start=start), member("b", "restarting", start={**start, "left_s": None}), broken)
    assert main(["members", "--admin", serve(told(*members))]) == 0
    _, a, b, c = capsys.readouterr().out.splitlines()
    assert "starting: loading weights, 42 %, about 31 s left" in a
    assert "restarting: loading weights, 42 %  " in b
    assert "ready, breaker open" in c


def test_json_gives_all_that_the_server_told(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    body = told(member("a", "ready"))
    assert main(["members", "--json", "--admin", serve(body)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(body)


@pytest.mark.parametrize(
    ("body", "status", "why"),
    [
        (b"no", 200, "expected the members of a Headgate server"),
        (b'{"members": [{"name": 3}]}', 200, "Expected `str`, got `int` - at `$.members[0].name`"),
        (b"{}", 404, "status 404; expected the admin port of a Headgate server"),
    ],
)
def test_another_servers_answer_is_refused(
    serve: Serve, capsys: pytest.CaptureFixture[str], body: bytes, status: int, why: str
) -> None:
    assert main(["members", "--admin", serve(body, status)]) == 1
    assert why in capsys.readouterr().err


def test_where_nobody_answers_the_flag_that_names_the_port_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["members", "--admin", "127.0.0.1:1"]) == 1
    assert "no server answers at 127.0.0.1:1: " in capsys.readouterr().err


@pytest.mark.parametrize("address", ["8001", ":8001", "host:", "host:x", "host:70000"])
def test_an_address_that_is_none_is_a_usage_error(capsys: pytest.CaptureFixture[str], address: str) -> None:
    assert main(["members", "--admin", address]) == 2
    assert f"--admin: expected HOST:PORT, got '{address}'" in capsys.readouterr().err


COST = {
    "windows": 1_200, "cut": 3, "answers": 40, "step_s": 0.0041, "running_s": 5e-5, "context_s": 4.2e-8,
    "prefill_s": 3.3e-5, "slowdown": 0.7, "overhead_s": 0.002, "error_window": 0.07, "error_first_token": 0.18,
    "error_output_token": 0.09,
    "cost_trust": 1.0, "wait_trust": 0.93, "lengths": 55, "error_length": 0.31, "output_surplus": -0.12,
}  # fmt: skip


def test_costs_are_shown_of_engines_with_their_errors_and_trust(
    serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = member("new", "ready", cost={})
    server = serve(told(member("a", "ready", cost=COST), fresh, member("url", "ready")))
    assert main(["members", "--cost", "--admin", server]) == 0
    head, a, new = capsys.readouterr().out.splitlines()
    assert head.split()[:3] == ["member", "step", "ms"]
    shown = "4.100 50.0 42.00 33.00 +70 % 2.00 1200 3 7 % 18 % 9 % 1.00 0.93 31 % -12 %"
    assert a.split() == ["a", *shown.split()]
    assert new.split() == ["new", "-", "-", "-", "-", "-", "-", "0", "0", "-", "-", "-", "-", "-", "-", "-"]


def test_costs_as_json_are_all_that_is_known_by_member(serve: Serve, capsys: pytest.CaptureFixture[str]) -> None:
    server = serve(told(member("a", "ready", cost=COST), member("url", "ready")))
    assert main(["members", "--cost", "--json", "--admin", server]) == 0
    costs = json.loads(capsys.readouterr().out)
    assert set(costs) == {"a"}
    assert COST.items() <= costs["a"].items()
