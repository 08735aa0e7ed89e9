"""A served journal: what clients have seen end is in it after a SIGKILL too, and `headgate journal` shows it."""

import concurrent.futures
import http.client
import json
import re
import signal
import socket
import threading
import urllib.error
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from router.cli.main import main
from router.observe.journal import FeedbackLine, Reader
from router.observe.record import Record
from tests.conftest import PATIENCE_S, wait_until

KILLS = 3
CLIENTS = 8


def records(folder: Path) -> list[Record]:
    return [line for line in Reader(folder) if isinstance(line, Record)]


def ask(server: Any, stop: threading.Event, acknowledged: list[str], enough: threading.Event) -> None:
    """Until the server is gone: the ids of the answers that came whole."""
    steps = json.dumps([["chunk", 'data: {"x":1}\n\n'], ["chunk", "data: [DONE]\n\n"], ["done"]])
    body = {"model": "auto", "messages": [{"role": "user", "content": "2 + 2?"}], "stream": True, "user": steps}
    while not stop.is_set():
        try:
            with server.post(body) as response:
                if response.read().endswith(b"data: [DONE]\n\n"):
                    acknowledged.append(response.headers["x-headgate-decision-id"])
        except (OSError, ValueError, http.client.HTTPException):
            if stop.is_set():
                return
        if len(acknowledged) > 50:
            enough.set()


def test_after_a_sigkill_under_load_no_acknowledged_record_is_missing_with_sync_record(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    path = config(journal={"path": str(folder), "sync": "record", "segment_bytes": 16384})
    acknowledged: list[str] = []
    for _ in range(KILLS):
        server, stop, enough = serve(path), threading.Event(), threading.Event()
        of_this: list[str] = []
        with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
            for _ in range(CLIENTS):
                pool.submit(ask, server, stop, of_this, enough)
            assert enough.wait(60)
            server.signal(signal.SIGKILL)
            stop.set()
        server.end()
        server.wait_childless()
        acknowledged += of_this
    reader = Reader(folder)
    written = [line.id for line in reader]
    assert set(acknowledged) - set(written) == set()
    assert len(written) == len(set(written))
    assert reader.torn <= KILLS


class Native:
    """A client whose requests are common ones: they go the native way, over one connection."""

    def __init__(self, server: Any) -> None:
        where = urlsplit(server.url)
        self._socket = socket.create_connection((where.hostname or "", where.port or 0), PATIENCE_S)
        self._server = server

    def post(self, body: dict[str, Any], headers: dict[str, str] | None = None) -> http.client.HTTPResponse:
        """Read to its end. `headers` that ask for something make it an ordinary request."""
        data = json.dumps(body).encode()
        lines = {"host": "h", "content-type": "application/json", "content-length": str(len(data)), **(headers or {})}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        # In one packet: what comes in pieces is no common request.
        self._socket.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n".encode() + data)
        response = http.client.HTTPResponse(self._socket, method="POST")
        response.begin()
        response.read()
        assert response.status == 200
        return response

    def steps(self) -> dict[str, float]:
        """How many requests ended natively, as `true end`, and at which step others left, and why."""
        found = {}
        with self._server.open("/metrics", admin=True) as response:
            for line in response.read().decode().splitlines():
                if line.startswith("headgate_steps_total"):
                    labels = dict(re.findall(r'(\w+)="(\w*)"', line))
                    key = f"{labels['native']} {labels['step']} {labels['why']}".strip()
                    found[key] = float(line.rpartition(" ")[2])
        return found

    def wait_for(self, **steps: int) -> None:
        """By `steps`' keys, with `_` for blanks. Closes the connection."""
        self._socket.close()
        wanted = {key.replace("_", " "): count for key, count in steps.items()}
        wait_until(lambda: {key: self.steps().get(key, 0) for key in wanted} == wanted, self.steps)


def test_with_sync_record_answers_end_natively_and_a_large_one_waits_by_itself(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path
) -> None:
    folder = tmp_path / "journal"
    server = serve(config(journal={"path": str(folder), "sync": "record"}))
    client = Native(server)
    body = {"model": "auto", "messages": [{"role": "user", "content": "2 + 2?"}]}
    large = json.dumps([["chunk", "x" * 40_000], ["done"]])
    for more in ({"stream": True}, {"stream": False}, {"stream": False, "user": large}):
        id = client.post(body | more).headers["x-headgate-decision-id"]
        assert records(folder)[-1].id == id  # at once
    client.wait_for(true_end=2, false_end_journal=1)


def test_with_the_default_every_answered_request_is_in_the_journal_after_an_orderly_end(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "journal"
    path = config(journal={"path": str(folder), "prompts": True})
    server = serve(path)
    ids = []
    for stream in (True, False):
        body = {"model": "auto", "messages": [{"role": "user", "content": "What is 2 + 2?"}], "stream": stream}
        with server.post(body, {"x-session-id": "s1"} if stream else None) as response:
            response.read()
            ids.append(response.headers["x-headgate-decision-id"])
    wait_until(lambda: len(records(folder)) == 2, lambda: str(records(folder)))
    with server.open("/metrics", admin=True) as response:
        assert b"headgate_journal_dropped_total 0.0" in response.read()
    with pytest.raises(urllib.error.HTTPError):
        server.post({"messages": 5})
    server.signal(signal.SIGTERM)
    code, error = server.end()
    assert code == 0, error
    first, second = records(folder)
    assert [first.id, second.id] == ids
    assert (first.session_id, first.stream, second.stream) == ("s1", True, False)
    assert [turn.text for turn in first.turns or ()] == ["What is 2 + 2?"]
    assert [turn.text for turn in second.turns or ()] == ["What is 2 + 2?"]
    assert main(["journal", "tail", str(path)]) == 0
    assert capsys.readouterr().out.count("tokens") == 2
    assert main(["journal", "tail", "-n", "1", "--json", str(folder)]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == ids[1]
    assert main(["journal", "show", ids[0], str(folder)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["decision"]["numbers"]["models"][0] == "small"
    assert main(["journal", "show", "nothing", str(folder)]) == 2
    assert "no record has the id 'nothing'" in capsys.readouterr().err


def test_feedback_on_native_and_ordinary_answers_is_in_the_file_once_acknowledged_and_becomes_outcomes(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "journal"
    server = serve(config(journal={"path": str(folder), "prompts": True, "feedback_ids": 2}))
    ids = []
    client = Native(server)
    for number, headers in enumerate((None, None, {"x-headgate-debug": "true"})):
        body = {"model": "small", "messages": [{"role": "user", "content": f"What is {number} + 2?"}]}
        ids.append(client.post(body, headers).headers["x-headgate-decision-id"])
    client.wait_for(true_end=2, false_head_header=1)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        server.open("/v1/feedback", {"id": ids[0], "score": 1})
    for id, score in ((ids[1], 0.25), (ids[2], 1), (ids[1], 0.75)):
        with server.open("/v1/feedback", {"id": id, "score": score, "preferred": "large"}) as response:
            assert json.loads(response.read())["model"] == "small"
    server.signal(signal.SIGKILL)
    server.end()
    server.wait_childless()
    said = [(line.id, line.score, line.better) for line in Reader(folder) if isinstance(line, FeedbackLine)]
    assert said == [(ids[1], 0.25, "large"), (ids[2], 1.0, "large"), (ids[1], 0.75, "large")]
    assert main(["journal", "tail", "-n", "1", str(folder)]) == 0
    assert f"{ids[1]}  feedback 0.75 large over small" in capsys.readouterr().out
    table = tmp_path / "outcomes.jsonl"
    assert main(["data", "import", str(folder), "--out", str(table), "--as-scores"]) == 0
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    assert [(row["prompt"], row["model"], row["score"]) for row in rows] == [
        ("What is 1 + 2?", "small", 0.75), ("What is 1 + 2?", "large", 1.0),
        ("What is 2 + 2?", "small", 1.0), ("What is 2 + 2?", "large", 1.0),
    ]  # fmt: skip


def test_replay_of_native_and_ordinary_decisions_is_alike_by_the_same_config_and_tells_what_another_changes(
    serve: Callable[..., Any], config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "journal"
    path = config(journal={"path": str(folder)})
    server = serve(path)
    asked, client = ("auto", "small", "router-mf-0.2", "router-mf-0.99"), Native(server)
    for number in range(24):
        body = {"model": asked[number % 4], "messages": [{"role": "user", "content": f"What is {number} + 2?"}]}
        headers = {"x-headgate-debug": "true"} if number % 3 == 0 else None
        client.post(body | {"stream": number % 2 == 0}, headers)
    client.wait_for(true_end=16, false_head_header=8)
    server.signal(signal.SIGTERM)
    assert server.end()[0] == 0
    assert main(["journal", "replay", str(folder), "--config", str(path), "--json"]) == 0
    same = json.loads(capsys.readouterr().out)
    assert (same["decisions"], same["alike"], same["changes"], same["refused"], same["undecidable"]) == (
        24, 24, [], {}, {},
    )  # fmt: skip
    with next(folder.glob("*.jsonl")).open("ab") as file:
        file.write(b'{"type":"request","version":9}\n{"type":"request","id":"torn')
    assert main(["journal", "replay", str(path), "--config", str(path), "--threshold", "1", "--changed", "1"]) == 0
    captured = capsys.readouterr()
    assert "24 decisions made again by" in captured.out
    assert re.search(r"before +after +decisions +quality each +USD each\n  large +small +6 +-0\.", captured.out)
    assert "quality, mean" in captured.out
    assert f"{records(folder)[0].id}  large -> small" in captured.out
    assert "lines that are not whole: 1\nlines of a later version: 1" in captured.out
    assert str(folder) in captured.err  # how far it is
    only = [{"name": "other", "model": "stub", "strength": 0.5}]
    assert main(["journal", "replay", str(folder), "--config", str(config(pool=only))]) == 2
    error = capsys.readouterr().err
    assert "no decision can be made again by" in error
    assert "24: the config has none of its models (small, large)" in error


def test_replay_without_a_config_or_a_journal_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["journal", "replay", str(tmp_path)])
    assert "--config" in capsys.readouterr().err
    config = tmp_path / "headgate.yaml"
    config.write_text('{"pool": [{"name": "a", "model": "m", "strength": 0.5}]}')
    assert main(["journal", "replay", str(tmp_path / "none"), "--config", str(config)]) == 2
    assert "expected a journal's folder or a file of it, got nothing" in capsys.readouterr().err
    assert main(["journal", "replay", str(tmp_path), "--config", str(config)]) == 2
    assert "no decision can be made again by" in capsys.readouterr().err
    assert main(["journal", "replay", str(tmp_path), "--config", str(config), "--price", "-1"]) == 2
    assert "--price, --threshold: expected 0 to" in capsys.readouterr().err


def test_validate_refuses_a_journal_that_cannot_be_written(
    config: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_bytes(b"")
    pool = [{"name": "u", "kind": "openai", "url": "http://127.0.0.1:1/v1", "strength": 0.5}]
    path = config(pool=pool, journal={"path": str(tmp_path / "file" / "journal")})
    assert main(["validate", str(path)]) == 2
    assert "expected a folder" in capsys.readouterr().err
    assert main(["validate", str(config(pool=pool, journal={"path": str(tmp_path / "new")}))]) == 0
    assert main(["validate", str(config(pool=pool, journal={"path": "x", "segment_bytes": 5}))]) == 2
    assert "$.journal.segment_bytes" in capsys.readouterr().err
    tight = {"path": "x", "segment_bytes": 1 << 20, "keep_bytes": 1 << 20}
    assert main(["validate", str(config(pool=pool, journal=tight))]) == 2
    assert "twice `segment_bytes`, got 1048576 - at `$.journal.keep_bytes`" in capsys.readouterr().err


@pytest.mark.parametrize(("time_s", "shown"), [(1e300, "1e+300 s"), (-1e18, "-1e+18 s")])
def test_tail_shows_a_line_of_no_calendars_time_and_nothing_that_a_terminal_obeys(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], time_s: float, shown: str
) -> None:
    line = {
        "type": "request", "version": 1, "id": "d\u001b[2J\u009b", "request_id": "r", "time_s": time_s,
        "kind": "chat", "asked": "größe\n", "end": "finish", "status": 200,
    }  # fmt: skip
    (tmp_path / "one.jsonl").write_text(json.dumps(line) + "\n")
    assert main(["journal", "tail", str(tmp_path / "one.jsonl")]) == 0
    out = capsys.readouterr().out
    assert out.startswith(f"{shown}  d?[2J?  größe?: ")
    assert out.count("\n") == 1
