"""`make demo`: two real models behind one endpoint; where each request went, why, and whether the answer was right.

A client of Headgate like any other: it starts `headgate serve`, and talks to it with the `openai` package.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NamedTuple

from openai import OpenAI, OpenAIError
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
PATIENCE_S = 600.0  # for engines to start; a cold disk and a busy machine included


class Question(NamedTuple):
    """What is asked, the result that must come last in the answer (none: any answer is right), and of which model."""

    text: str
    result: str = ""
    model: str = "auto"


QUESTIONS = (
    Question("Hello!"),
    Question("What is 7 + 8?", "15"),
    Question("12+7=", "19"),
    Question("Please add 45 and 38.", "83"),
    Question("4821+977=", "5798"),
    Question("What is 3456 + 7890?", "11346"),
    Question("Explain 128+77", "205"),
    Question("612+85+290=", "987"),
    Question("4821+977=", "5798", "pair-small"),
)
STREAMED = "Explain 8765+4321"


class Answered(NamedTuple):
    """An answer and what its headers told."""

    question: Question
    text: str
    headers: dict[str, str]
    seconds: float

    @property
    def right(self) -> bool:
        found = re.findall(r"\d+", self.text)
        return not self.question.result or found[-1:] == [self.question.result]

    @property
    def terms(self) -> list[dict[str, Any]]:
        """The numbers that spoke for each model."""
        return list(json.loads(self.headers.get("x-headgate-terms", "[]")))


class Server:
    """A running `headgate serve`, its log in a file of its own. Stopped by `stop`, always."""

    def __init__(self, config: Path, port: int) -> None:
        self.port = port or free_port()
        self.admin_port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = tempfile.NamedTemporaryFile("w+", prefix="headgate-demo-", suffix=".log")  # noqa: SIM115
        command = [headgate(), "serve", str(config), "--port", str(self.port), "--admin-port", str(self.admin_port)]
        # In a session of its own, so that Ctrl-C reaches us alone and we end it in good order.
        self.process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT, start_new_session=True)

    def phases(self) -> dict[str, str]:
        """What each member is doing; empty while the frontend itself is still starting."""
        try:
            with urllib.request.urlopen(f"{self.url}/ready", timeout=5) as response:
                body = response.read()
        except urllib.error.HTTPError as error:
            with error:
                body = error.read()
        except OSError:
            return {}
        return dict(json.loads(body).get("members", {}))

    def log(self, lines: int) -> str:
        """The last lines that the server wrote."""
        return "\n".join(Path(self._log.name).read_text(errors="replace").splitlines()[-lines:])

    def stop(self) -> None:
        """Ask it to finish, wait, insist if need be."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        self._log.close()


def headgate() -> str:
    """The command that belongs to this Python, else the one on the path."""
    beside = Path(sys.executable).with_name("headgate")
    found = str(beside) if beside.exists() else shutil.which("headgate")
    if not found:
        sys.exit("the `headgate` command is not installed: run `make setup`, or `pip install -e .`")
    return found


def free_port() -> int:
    """A port that nothing uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(server: Server, console: Console, patience_s: float) -> None:
    """Show what the engines are doing until each is ready; leave with the server's last words if it ends first."""
    started, told = time.monotonic(), ""
    with console.status("starting ...") as status:
        while (phases := server.phases()) == {} or any(phase != "ready" for phase in phases.values()):
            waited_s = time.monotonic() - started
            shown = ", ".join(f"{name}: {phase}" for name, phase in phases.items()) or "starting the frontend"
            if shown != told and not console.is_terminal:
                console.print(shown, highlight=False)
            told = shown
            status.update(f"{shown}  [dim]({waited_s:.0f} s; an engine takes 20 to 60 s)[/dim]")
            if server.process.poll() is not None or waited_s > patience_s:
                why = "ended" if server.process.poll() is not None else f"was not ready after {patience_s:.0f} s"
                console.print(server.log(40), markup=False, highlight=False)
                raise SystemExit(f"headgate serve {why}; its last lines are above")
            time.sleep(0.5)
    waited_s = time.monotonic() - started
    console.print(f"[bold]Ready[/bold] after {waited_s:.0f} s: {', '.join(phases)} at {server.url}/v1")


def ask(client: OpenAI, question: Question) -> Answered:
    """One request, its answer and the headers that explain the decision."""
    started = time.monotonic()
    raw = client.chat.completions.with_raw_response.create(
        model=question.model,
        messages=[{"role": "user", "content": question.text}],
        extra_headers={"x-headgate-debug": "true"},
    )
    text = raw.parse().choices[0].message.content or ""
    headers = {name.lower(): value for name, value in raw.headers.items()}
    return Answered(question, text, headers, time.monotonic() - started)


def table_of(answered: list[Answered]) -> Table:
    """One row a request; quality and cost are predictions, one figure a model, in the pool's order."""
    models = " / ".join(term["model"] for term in answered[0].terms)
    table = Table(title=f"Where each request went, and why (quality and cost of {models})", title_justify="left")
    for column in ("asked", "answered by", "answer", "right", "quality", "cost, µ$", "why", "ms"):
        table.add_column(column, justify="right" if column == "ms" else "left", overflow="fold")
    for one in answered:
        right = "" if not one.question.result else "[green]yes[/green]" if one.right else "[red]no[/red]"
        table.add_row(
            one.question.text,
            one.headers.get("x-headgate-model", ""),
            one.text,
            right,
            " / ".join(f"{term['quality']:.2f}" for term in one.terms),
            " / ".join(f"{term['cost_usd'] * 1e6:.0f}" for term in one.terms),
            ", ".join([one.headers.get("x-headgate-reason", ""), *excluded(one.terms)]),
            f"{one.seconds * 1e3:.0f}",
        )
    return table


def excluded(terms: list[dict[str, Any]]) -> list[str]:
    """Which models a hard rule left out."""
    return [f"not {term['model']}: {term['excluded']}" for term in terms if term["excluded"]]


def stream(client: OpenAI, console: Console) -> None:
    """One answer as it is written."""
    console.print(f"\n[bold]Streaming[/bold] {STREAMED!r}:")
    chunks = client.chat.completions.create(
        model="auto",
        messages=[{"role": "user", "content": STREAMED}],
        stream=True,
        stream_options={"include_usage": True},
    )
    model, tokens = "", 0
    for chunk in chunks:
        model = chunk.model or model
        tokens = chunk.usage.completion_tokens if chunk.usage else tokens
        for choice in chunk.choices:
            console.print(choice.delta.content or "", end="", markup=False, highlight=False, soft_wrap=True)
    console.print(f"\n[dim]{tokens} tokens by {model}[/dim]")


def next_commands(server: Server) -> str:
    """What to try while the server is up."""
    chat = '{"model": "auto", "messages": [{"role": "user", "content": "1234+5678="}]}'
    streamed = '{"model": "auto", "stream": true, "messages": [{"role": "user", "content": "Explain 128+77"}]}'
    post = f"curl -s {server.url}/v1/chat/completions -H 'content-type: application/json'"
    return f"""
The server stays up. In another terminal:

  {post} -i -H 'x-headgate-debug: true' -d '{chat}'
  {post} -N -d '{streamed}'
  curl -s {server.url}/v1/models
  curl -s {server.url}/metrics

Your own models: headgate serve --small MODEL --large MODEL      How these were made: examples/README.md
Ctrl-C stops it.
"""


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Two tiny real models behind one endpoint: who answers what, and why.")
    parser.add_argument("--config", type=Path, default=HERE / "pair" / "headgate.yaml")
    parser.add_argument("--port", type=int, default=0, help="of the endpoint (default: a free one)")
    parser.add_argument("--once", action="store_true", help="stop the server after the requests")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_S, metavar="SECONDS", help="for the engines to start"
    )
    return parser.parse_args()


def requests(server: Server, console: Console) -> None:
    """Ask everything and show it."""
    client = OpenAI(base_url=f"{server.url}/v1", api_key="none", timeout=120, max_retries=0)
    with console.status("asking ..."):
        answered = [ask(client, question) for question in QUESTIONS]
    console.print(table_of(answered))
    routed = [one for one in answered if one.question.model == "auto" and one.question.result]
    console.print(
        "utility: the highest quality - price * cost; pinned: the request named the model.\n"
        f"{sum(one.right for one in routed)} of {len(routed)} routed sums are right."
    )
    stream(client, console)


def main() -> int:
    """Start, wait, ask, and stay until told to stop. 0 when every request was answered."""
    args = arguments()
    console = Console()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs start with it ignored
    server = Server(args.config, args.port)
    try:
        wait_until_ready(server, console, args.patience)
        requests(server, console)
        if not args.once:
            console.print(next_commands(server), markup=False, highlight=False, soft_wrap=True)
            server.process.wait()
            console.print(server.log(20), markup=False, highlight=False)
            return 1
    except OpenAIError as error:
        console.print(f"a request was not answered: {error}", markup=False)
        return 1
    except KeyboardInterrupt:
        console.print("stopping ...")
    finally:
        server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
