"""The demo against a scripted server: it waits, asks, explains, and stops what it started, whatever happens."""

import contextlib
import importlib.util
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE_S

DEMO = Path(__file__).resolve().parents[2] / "examples" / "demo.py"
STUB = """
import json, os, signal, sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

port, started = int(sys.argv[sys.argv.index("--port") + 1]), time.monotonic()
if os.environ.get("STUB_FAILS"):
    sys.exit("headgate: error: the engine has no weights")
signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
terms = [
    {"model": "pair-small", "quality": 0.98, "cost_usd": 2e-6, "utility": 0.97, "excluded": None},
    {"model": "pair-large", "quality": 0.99, "cost_usd": 9e-6, "utility": 0.90, "excluded": "context"},
]

class Handler(BaseHTTPRequestHandler):
    def reply(self, status, body, kind="application/json", **headers):
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": len(body), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        ready = time.monotonic() - started > 1 and not os.environ.get("STUB_NEVER_READY")
        phase = "ready" if ready else "starting"
        body = {"status": phase, "members": {"pair-small": "ready", "pair-large": phase}}
        self.reply(200, json.dumps(body).encode())

    def do_POST(self):
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if asked.get("stream"):
            chunk = {"id": "1", "object": "chat.completion.chunk", "created": 1, "model": "pair-large"}
            usage = {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}
            events = [{**chunk, "choices": [{"index": 0, "delta": {"content": "5, 6"}}]},
                      {**chunk, "choices": [], "usage": usage}]
            body = "".join(f"data: {json.dumps(event)}\\n\\n" for event in events) + "data: [DONE]\\n\\n"
            return self.reply(200, body.encode(), "text/event-stream")
        if os.environ.get("STUB_REFUSES"):
            return self.reply(503, b'{"error": {"message": "no model can take this", "type": "x", "code": null}}')
        message = {"role": "assistant", "content": "so 15"}
        body = {"id": "1", "object": "chat.completion", "created": 1, "model": "pair-small",
                "choices": [{"index": 0, "message": message, "finish_reason": "stop"}]}
        self.reply(200, json.dumps(body).encode(), x_headgate_model="pair-small", x_headgate_reason="utility",
                   x_headgate_terms=json.dumps(terms))

    def log_message(self, *_):
        pass

ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


@pytest.fixture(scope="module")
def demo():
    spec = importlib.util.spec_from_file_location("headgate_demo", DEMO)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path):
    """Starts the demo with a scripted `headgate` beside its Python; returns the process."""
    command = tmp_path / "bin" / "headgate"
    command.parent.mkdir()
    command.write_text(f"#!{sys.executable} -P\n{STUB}")
    command.chmod(command.stat().st_mode | stat.S_IXUSR)
    launcher = f"import sys, runpy; sys.executable = {str(command.with_name('python'))!r}; "
    launcher += f"sys.argv[0] = {str(DEMO)!r}; runpy.run_path({str(DEMO)!r}, run_name='__main__')"
    started = []

    def start(*arguments, **env):
        environment = {**os.environ, "STUB_OF": str(tmp_path), "COLUMNS": "200", **env}
        process = subprocess.Popen(
            [sys.executable, "-P", "-c", launcher, *arguments],
            env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def server_is_gone(tmp_path: Path) -> bool:
    """By its environment: it may have been stopped before it could write its process id."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdigit() and str(tmp_path) in (entry / "environ").read_text():
                return False
    return True


def test_once_asks_everything_and_stops_the_server(run, tmp_path):
    process = run("--once")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, output
    assert "Ready after" in output
    assert "(quality and cost of pair-small / pair-large)" in output
    assert "0.98 / 0.99 │ 2 / 9" in output
    assert "utility, not pair-large: context" in output
    assert "1 of 7 routed sums are right." in output
    assert "5, 6\n4 tokens by pair-large" in output
    assert server_is_gone(tmp_path)


def test_refused_request_is_told_and_fails(run, tmp_path):
    process = run("--once", STUB_REFUSES="1")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "a request was not answered: Error code: 503" in output
    assert "no model can take this" in output
    assert server_is_gone(tmp_path)


def test_server_that_ends_is_reported_with_its_last_words(run):
    process = run("--once", STUB_FAILS="1")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "headgate: error: the engine has no weights" in output
    assert "headgate serve ended; its last lines are above" in output


def test_engines_that_never_come_up_end_the_wait(run, tmp_path):
    process = run("--once", "--patience", "0.5", STUB_NEVER_READY="1")
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "headgate serve was not ready after 0 s" in output
    assert server_is_gone(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_stops_the_server_too(run, tmp_path, number):
    process = run()
    for line in process.stdout:
        if "Ctrl-C stops it" in line:
            break
    process.send_signal(number)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (0 if number == signal.SIGINT else 143), output
    assert server_is_gone(tmp_path)


def test_next_commands_name_the_running_port(demo, monkeypatch):
    server = object.__new__(demo.Server)
    server.url = "http://127.0.0.1:4242"
    assert demo.next_commands(server).count("http://127.0.0.1:4242/") == 4


@pytest.mark.parametrize(("text", "right"), [("1+7=8, so 5798", True), ("5798.", True), ("5797", False), ("", False)])
def test_right_is_the_last_number(demo, text, right):
    assert demo.Answered(demo.Question("4821+977=", "5798"), text, {}, 0.1).right is right


def test_any_answer_to_a_greeting_is_right(demo):
    assert demo.Answered(demo.Question("Hello!"), "Good day", {}, 0.1).right
