"""`headgate chat`: what it sends, what it shows of who wrote what, and how it says that a server is gone."""

import io
import json
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from router.cli import chat as chat_module
from router.cli.chat_answer import Ended, Piece, Usage
from router.cli.chat_shown import Screen, told
from router.cli.main import main

TERMS = [
    {"model": "small", "quality": 0.71, "cost_usd": 1.5e-05},
    {"model": "large", "quality": 0.9, "cost_usd": 0.0001},
]


def event(**fields: Any) -> bytes:
    return b"data: " + json.dumps(fields).encode() + b"\n\n"


def text(text: str, by: str = "", **fields: Any) -> bytes:
    own = {"headgate": {"model": by}} if by else {}
    return event(choices=[{"index": 0, "delta": {"content": text}, **fields}], **own)


DONE = b"data: [DONE]\n\n"
USAGE = {"prompt_tokens": 12, "completion_tokens": 5, "headgate": {"small": 2, "large": 3}}
TWO_WRITERS = [
    event(choices=[{"index": 0, "delta": {"role": "assistant", "content": ""}}], headgate={"model": "small"}),
    text("It is "),
    text("four", by="large"),
    text(".", finish_reason="stop"),
    event(choices=[], usage=USAGE),
    DONE,
]


class Stub:
    """A server whose answers are scripted: bytes of streams, or a refusal."""

    def __init__(self) -> None:
        self.answers: list[list[bytes] | tuple[int, str]] = []
        self.asked: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        stub = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/chat/completions"
                stub.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                stub.headers.append({name.lower(): value for name, value in self.headers.items()})
                answer = stub.answers.pop(0) if stub.answers else TWO_WRITERS
                status = 200 if isinstance(answer, list) else answer[0]
                self.send_response(status)
                for name, value in {
                    "model": "small", "reason": "utility", "decision-id": "d-1", "terms": json.dumps(TERMS),
                }.items():  # fmt: skip
                    self.send_header(f"x-headgate-{name}", value)
                self.end_headers()
                if isinstance(answer, list):
                    self.wfile.write(b"".join(answer))
                else:
                    self.wfile.write(json.dumps({"error": {"message": answer[1]}}).encode())

            def log_message(self, *_: object) -> None: ...

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    yield made
    made.http.shutdown()
    made.http.server_close()


def type_in(monkeypatch: pytest.MonkeyPatch, *lines: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))


def test_once_shows_the_answer_by_its_writers_then_one_line(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--url", stub.url, "--once", "2 + 2?", "--max-tokens", "9"]) == 0
    answer, line, *_ = capsys.readouterr().out.rsplit("\n", 3)
    assert answer == "It is \n[large] four."
    assert line.startswith("small 2 + large 3 tokens · 12 read · utility · quality 0.71 · $1.5e-05 predicted · ")
    (asked,) = stub.asked
    assert asked == {
        "model": "auto",
        "messages": [{"role": "user", "content": "2 + 2?"}],
        "max_tokens": 9,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert stub.headers[0]["x-headgate-debug"] == "true"
    assert "x-headgate-choice" not in stub.headers[0]


def test_json_tells_segments_tokens_and_the_decision(stub: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--json", "--choice", "handoff", "--model", "small", "--system", "Be brief."]
    assert main(["chat", "--url", f"{stub.url}/v1", "--once", "2 + 2?", *words]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said.pop("seconds") >= 0
    assert said == {
        "model": "small",
        "text": "It is four.",
        "segments": [["small", "It is "], ["large", "four."]],
        "reason": "utility",
        "decision_id": "d-1",
        "finish_reason": "stop",
        "prompt_tokens": 12,
        "completion_tokens": 5,
        "tokens": {"small": 2, "large": 3},
        "quality": 0.71,
        "cost_usd": 1.5e-05,
    }
    assert stub.headers[0]["x-headgate-choice"] == "handoff"
    assert stub.asked[0]["model"] == "small"
    assert stub.asked[0]["messages"][0] == {"role": "system", "content": "Be brief."}


def test_a_conversation_is_kept_until_it_is_cleared_and_commands_change_what_is_asked(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    type_in(
        monkeypatch,
        "one", "/model large", "/choice cascade", "/choice twice", "/system Be brief.", "two", "/clear", "three",
        "/nonsense", "/quit", "four",
    )  # fmt: skip
    assert main(["chat", "--url", stub.url]) == 0
    contents = [[message["content"] for message in asked["messages"]] for asked in stub.asked]
    assert contents == [["one"], ["Be brief.", "one", "It is four.", "two"], ["Be brief.", "three"]]
    assert [asked["model"] for asked in stub.asked] == ["auto", "large", "large"]
    assert [headers.get("x-headgate-choice") for headers in stub.headers] == [None, "cascade", "cascade"]
    out = capsys.readouterr().out
    assert "expected one of auto, before, cascade, handoff, got 'twice'" in out
    assert "no /nonsense; there are:" in out


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        ((404, "model 'x' does not exist"), "headgate: error: 404: model 'x' does not exist\n"),
        ([text("It"), event(error={"message": "the engine\ndied"}), DONE], "ended in an error: the engine died\n"),
        ([text("It")], "headgate: error: the answer broke off: its stream ended without [DONE]\n"),
        ([b"data: nonsense\n\n"], "headgate: error: the answer cannot be read: "),
    ],
)
def test_an_answer_that_fails_is_one_line_and_exit_code_1(
    stub: Stub, answer: Any, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.answers.append(answer)
    assert main(["chat", "--url", stub.url, "--once", "hi"]) == 1
    error = capsys.readouterr().err
    assert why in error
    assert error.count("\n") == 1


def test_of_a_failed_answer_nothing_is_kept_and_the_conversation_goes_on(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stub.answers.append((503, "no engine"))
    type_in(monkeypatch, "one", "two")
    assert main(["chat", "--url", stub.url]) == 1
    assert [message["content"] for message in stub.asked[1]["messages"]] == ["two"]
    assert "headgate: error: 503: no engine" in capsys.readouterr().err


def test_where_no_server_listens_is_said_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))  # bound, and nobody listens
        url = f"http://127.0.0.1:{held.getsockname()[1]}"
        assert main(["chat", "--url", url, "--once", "hi"]) == 1
    assert capsys.readouterr().err == (
        f"headgate: error: no server answers at {url}: Connection refused; --url says where it is\n"
    )


@pytest.mark.parametrize("url", ["localhost:8000", "ftp://h", "http://h:none"])
def test_another_url_is_refused(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["chat", "--url", url, "--once", "hi"]) == 2
    assert f"--url: expected http://HOST:PORT, got {url!r}" in capsys.readouterr().err


def test_a_key_of_the_config_is_sent(
    stub: Stub, config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    port = stub.http.server_address[1]
    server = {"port": port, "admin_port": 0, "api_keys": [{"key": "secret", "choice": "before"}]}
    assert main(["chat", str(config(server=server)), "--once", "hi"]) == 0
    assert stub.headers[0]["authorization"] == "Bearer secret"


def test_each_model_has_a_colour_of_its_own_and_control_characters_are_left_out() -> None:
    out = io.StringIO()
    screen = Screen(out, coloured=True)
    screen.begin()
    for piece in (Piece("a\x1b[2J", "small"), Piece("b", "large"), Piece("c", "small")):
        screen.piece(piece)
    assert out.getvalue() == "\x1b[0m\x1b[36ma[2J\x1b[0m\x1b[33mb\x1b[0m\x1b[36mc"


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_no_color_is_respected(
    stub: Stub, monkeypatch: pytest.MonkeyPatch, variable: str, coloured: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("NO_COLOR", variable)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["chat", "--url", stub.url, "--once", "hi"]) == 0
    assert ("\x1b[36m" in capsys.readouterr().out) is coloured


def test_ctrl_c_cuts_the_answer_and_keeps_what_came(monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(*_: object) -> Iterator[Piece | Ended]:
        yield Piece("It is", "small")
        raise KeyboardInterrupt

    monkeypatch.setattr(chat_module, "ask", cut)
    out = io.StringIO()
    chat = chat_module.Chat(chat_module.door_of("chat", None, None), Screen(out, coloured=False))
    chat.ask("2 + 2?")
    assert [turn.content for turn in chat.turns] == ["2 + 2?", "It is"]
    assert out.getvalue() == "It is\n"


def test_of_one_writer_its_tokens_are_told_and_how_it_ended() -> None:
    said = {"reason": "rule; pii", "legs": "small, large"}
    line = told(Ended("small", "length", Usage(1_200, 7), said), 1.25)
    assert line == "small 7 tokens · 1,200 read · rule; pii · legs small, large · ended by length · 1.2 s"


def test_a_real_server_says_why_it_refuses(
    serve: Callable[..., Any], config: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    server = serve(config())
    assert main(["chat", "--url", server.url, "--model", "smal", "--once", "hi"]) == 1
    assert "404: model 'smal' does not exist; did you mean 'small'?" in capsys.readouterr().err
