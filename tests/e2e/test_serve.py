"""`headgate serve` with two real engines, as its clients see it; then its engines are killed, and come back.

The tests share one server and run in order.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from router import Router
from router.config import Config, Member, Routing
from router.learn.fit.recipe import SIZES
from router.learn.fit.training import run as train
from tests.conftest import PATIENCE_S, WORK_S, wait_until

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

SUM = [{"role": "user", "content": "What is 12 + 30?"}]
WEAK, STRONG = "router-mf-1", "router-mf-0"  # thresholds that one side always reaches
LONG = {"temperature": 0, "max_tokens": 1500, "extra_body": {"ignore_eos": True}}


class Server:
    """One `headgate serve`."""

    def __init__(self, config: dict[str, Any], env: dict[str, str]) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="hg-")
        path = self.config = Path(self.folder.name) / "headgate.yaml"
        path.write_text(json.dumps(config))
        self.log = (Path(self.folder.name) / "log").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "router.cli.main", "serve", "--json", str(path)],
            stdout=subprocess.PIPE,
            stderr=self.log,
            text=True,
            env={**env, "TMPDIR": self.folder.name},
        )

    def wait_ready(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            event = json.loads(line)
            if event["event"] == "serving":
                self.url, self.admin = event["url"], event["admin_url"]
                return
        pytest.fail(self.said())

    def said(self) -> str:
        self.log.flush()
        return (Path(self.folder.name) / "log").read_text()

    def reload(self, config: str) -> None:
        """Another routing, read again on SIGHUP."""
        said = self.said().count("were read again")
        self.config.write_text(config)
        self.process.send_signal(signal.SIGHUP)
        wait_until(lambda: self.said().count("were read again") > said, self.said)

    def metric(self, name: str) -> float:
        with urllib.request.urlopen(f"{self.admin}/metrics", timeout=PATIENCE_S) as response:
            lines = response.read().decode().splitlines()
        return next(float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} "))

    def members(self) -> dict[str, Any]:
        with urllib.request.urlopen(f"{self.admin}/members", timeout=PATIENCE_S) as response:
            return {member["name"]: member for member in json.load(response)["members"]}

    def wait_for(self, member: str, **state: Any) -> None:
        def is_so() -> bool:
            now = self.members()[member]
            return all(now[key] == value for key, value in state.items())

        wait_until(is_so, lambda: self.members()[member])

    def wait_back(self, member: str) -> None:
        """Until it has been started again: that takes minutes on a busy machine."""
        give_up = time.monotonic() + WORK_S
        while self.members()[member]["phase"] != "ready":
            assert time.monotonic() < give_up, self.members()[member]
            time.sleep(0.1)

    def processes(self) -> list[str]:
        """What was started by this server and still lives, frontend excluded."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) == self.process.pid:
                continue
            try:
                if self.folder.name in (entry / "environ").read_text():
                    found.append((entry / "cmdline").read_text().replace("\0", " "))
            except OSError:
                continue
        return found

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(PATIENCE_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        self.log.close()
        self.folder.cleanup()


@contextlib.contextmanager
def serving(config: dict[str, Any], env: dict[str, str]) -> Iterator[Server]:
    """A server that is ready."""
    server = Server(config, env)
    try:
        server.wait_ready()
        yield server
    finally:
        server.close()


@pytest.fixture(scope="module")
def server(pair: Path, engine_args: dict[str, Any], engine_env: dict[str, str]) -> Iterator[Server]:
    engine_args.pop("max_model_len")
    config = {
        "server": {"port": 0, "admin_port": 0},
        "pool": [
            {"name": "small", "model": str(pair / "small"), "like": "pair-small", "engine_args": engine_args},
            {"name": "large", "model": str(pair / "large"), "like": "pair-large", "engine_args": engine_args},
        ],
        "routing": {"checkpoint": str(pair / "router.safetensors")},
        "supervision": {"backoff_s": 0.2},
    }
    with serving(config, engine_env) as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120) as client:
        yield client


def test_each_answer_says_where_it_came_from(client: openai.OpenAI) -> None:
    for model, name, reason in (
        (WEAK, "small", "threshold"),
        (STRONG, "large", "threshold"),
        ("small", "small", "pinned"),
        ("auto", None, "utility"),
    ):
        raw = client.chat.completions.with_raw_response.create(model=model, messages=SUM, temperature=0)
        answer = raw.parse()
        assert answer.model == raw.headers["x-headgate-model"]
        assert raw.headers["x-headgate-reason"] == reason
        assert name in (None, answer.model)
        assert answer.choices[0].message.content.endswith("42")
        assert answer.choices[0].finish_reason == "stop"
        assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_stream_is_the_whole_answer_in_pieces(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="large", messages=SUM, temperature=0)
    stream = client.chat.completions.create(
        model="large", messages=SUM, temperature=0, stream=True, stream_options={"include_usage": True}
    )
    chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole.choices[0].message.content
    assert len(chunks) >= 3  # vLLM joins the tokens of several steps on a busy machine
    assert {chunk.model for chunk in chunks} == {"large"}
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens


def test_stop_and_several_choices_and_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="small", messages=SUM, temperature=0.01, n=2, stop=["2"], logprobs=True, top_logprobs=2
    )
    assert [choice.message.content for choice in answer.choices] == ["4", "4"]
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert len(answer.choices[0].logprobs.content[0].top_logprobs) == 2


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(model=STRONG, prompt="12+30=", max_tokens=4, temperature=0)
    assert answer.object == "text_completion"
    assert answer.model == "large"
    assert answer.choices[0].text


def test_structured_output_goes_through_vllms_own_classes(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"sum": {"enum": [42, 43]}}, "required": ["sum"]}
    format = {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}
    answer = client.chat.completions.create(
        model="auto",
        messages=SUM,
        temperature=0,
        max_tokens=60,
        response_format=format,  # type: ignore[call-overload]
    )
    assert json.loads(answer.choices[0].message.content)["sum"] in (42, 43)


def test_a_prompt_too_long_for_one_goes_to_the_larger_context(client: openai.OpenAI, server: Server) -> None:
    contexts = {name: member["state"]["context_tokens"] for name, member in server.members().items()}
    assert contexts["small"] < contexts["large"]
    messages = [{"role": "user", "content": "1+" * (contexts["small"] // 2 + 40) + "1="}]
    raw = client.chat.completions.with_raw_response.create(model=WEAK, messages=messages, max_tokens=5)
    assert raw.headers["x-headgate-model"] == "large"
    with pytest.raises(openai.BadRequestError, match="maximum context length") as error:
        client.chat.completions.create(model="small", messages=messages, max_tokens=5)
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="context"):
        longer = [{"role": "user", "content": "1+" * contexts["large"] + "1="}]
        client.chat.completions.create(model="auto", messages=longer, max_tokens=5)


def test_an_unknown_model_is_told_what_there_is(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="there are auto, small, large"):
        client.chat.completions.create(model="medium", messages=SUM)


def test_leaving_a_stream_stops_the_generation(client: openai.OpenAI, server: Server) -> None:
    """It is left after its first token of 1,500: the engine is idle again before 400 could have been made."""
    begun = time.monotonic()
    stream = client.chat.completions.create(model="large", messages=SUM, stream=True, **LONG)
    next(iter(stream))
    assert server.members()["large"]["in_flight"] == 1
    stream.close()
    server.wait_for("large", in_flight=0)
    wait_until(lambda: not server.members()["large"]["state"]["running"], lambda: server.members()["large"])
    left_s = time.monotonic() - begun
    begun = time.monotonic()
    client.chat.completions.create(model="large", messages=SUM, **{**LONG, "max_tokens": 400})
    assert left_s < time.monotonic() - begun


def test_an_openai_member_over_this_very_server(pair: Path, server: Server) -> None:
    """A running server as a member of another pool: streamed, named as ours, counted."""
    member = Member(name="remote", kind="openai", url=server.url, model="large", like="pair-large")
    routing = Routing(checkpoint=str(pair / "router.safetensors"))

    async def ask() -> None:
        async with Router(Config(pool=(member,), routing=routing)) as router:
            stream = router.chat(SUM, temperature=0)
            chunks = [chunk async for chunk in stream]
            assert "".join(chunk.text for chunk in chunks).endswith("42")
            assert all(b'"model":"remote"' in chunk.raw for chunk in chunks)
            assert chunks[-1].usage is not None
            answer = await router.complete(SUM, temperature=0)
            assert answer.text.endswith("42")
            (status,) = router.members()
            assert (status.in_flight, status.phase) == (0, "ready")
            assert status.state.context_tokens == server.members()["large"]["state"]["context_tokens"]

    asyncio.run(ask())


def test_a_judge_of_the_pool_decides(
    client: openai.OpenAI, server: Server, pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A router that reads the small model's verdicts is trained over this very server, then served by it."""
    monkeypatch.chdir(tmp_path)  # verdicts are kept there
    table, checkpoint = tmp_path / "sums.jsonl", tmp_path / "judge.safetensors"
    outcomes = [
        {"prompt": f"What is {10**i} + {i}?", "model": model, "score": score}
        for i in range(1, 5)
        for model, score in (("pair-small", float(i < 3)), ("pair-large", 1.0))
    ]
    table.write_text("".join(json.dumps(row) + "\n" for row in outcomes))
    options = {"judge": server.url, "model": "small"}
    report = train([table], checkpoint, SIZES["small"], router="causal_llm", options=options, folds=2)
    assert report.prompts == 4
    kept = [json.loads(line)["verdict"] for line in (tmp_path / "verdicts-small.jsonl").read_text().splitlines()]
    assert len(kept) == 4
    assert all(1 <= verdict <= 5 for verdict in kept)
    before = server.config.read_text()
    config = json.loads(before)
    config["routing"] = {"checkpoint": str(checkpoint), "judge_timeout_s": 60}
    try:
        server.reload(json.dumps(config))
        for text in (outcomes[0]["prompt"], "What is 77 + 3?"):  # known from training; new
            answer = client.chat.completions.create(
                model="auto", messages=[{"role": "user", "content": text}], temperature=0
            )
            assert answer.choices[0].message.content
        assert server.metric('headgate_judgements_total{result="known"}') == 1
        assert server.metric('headgate_judgements_total{result="answered"}') == 1
        assert server.metric("headgate_judge_seconds_count") == 1
    finally:
        server.reload(before)
    assert client.chat.completions.create(model="auto", messages=SUM, temperature=0).choices[0].message.content
    assert server.metric("headgate_judge_seconds_count") == 1


def test_a_host_that_dies_before_its_first_token_is_replaced(client: openai.OpenAI, server: Server) -> None:
    pid = server.members()["large"]["pid"]
    os.kill(pid, signal.SIGSTOP)  # it holds the requests and does not answer
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=120) as other:
        create = other.chat.completions.with_raw_response.create
        with ThreadPoolExecutor(2) as threads:  # one alone would be told that it may have been the cause
            asked = [threads.submit(create, model=STRONG, messages=SUM, temperature=0) for _ in range(2)]
            try:
                server.wait_for("large", in_flight=2)
            finally:
                os.kill(pid, signal.SIGKILL)
            answers = [each.result() for each in asked]
    for raw in answers:
        assert (raw.headers["x-headgate-model"], raw.headers["x-headgate-reason"]) == ("small", "retry")
        assert raw.parse().choices[0].message.content.endswith("42")


def test_while_an_engine_is_away_the_other_serves(client: openai.OpenAI, server: Server) -> None:
    answer = client.chat.completions.create(model="auto", messages=SUM, temperature=0)
    assert answer.model == "small"
    with pytest.raises(openai.InternalServerError, match="model 'large' is not available now") as error:
        client.chat.completions.create(model="large", messages=SUM)
    assert error.value.status_code == 503
    assert int(error.value.response.headers["retry-after"]) >= 1


def test_it_comes_back_and_serves(client: openai.OpenAI, server: Server) -> None:
    server.wait_back("large")
    answer = client.chat.completions.create(model="large", messages=SUM, temperature=0)
    assert answer.choices[0].message.content.endswith("42")
    member = server.members()["large"]
    assert member["restarts"] == 1
    assert "SIGKILL" in member["last_error"]


def test_a_host_killed_mid_stream_ends_it_with_an_error(server: Server) -> None:
    body = {"model": "large", "messages": SUM, "stream": True, "temperature": 0, "max_tokens": 1500, "ignore_eos": True}
    request = urllib.request.Request(
        f"{server.url}/v1/chat/completions", json.dumps(body).encode(), {"content-type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        assert response.readline().startswith(b"data: {")
        os.kill(server.members()["large"]["pid"], signal.SIGKILL)
        events = [line for line in response.read().decode().splitlines() if line]
    assert events[-1] == "data: [DONE]"
    error = json.loads(events[-2].removeprefix("data: "))["error"]
    assert error["message"] == "engine 'large' was lost"
    assert error["code"] == "engine_failed"


def test_sigterm_ends_everything_well(server: Server) -> None:
    server.process.send_signal(signal.SIGTERM)
    assert server.process.wait(PATIENCE_S) == 0
    wait_until(lambda: not server.processes(), server.processes)
    assert "Traceback" not in server.said()


def test_an_engine_that_fails_to_start_says_its_own_error(
    pair: Path, engine_args: dict[str, Any], engine_env: dict[str, str]
) -> None:
    member = {"name": "one", "model": str(pair / "small"), "engine_args": {**engine_args, "kv_cache_memory_bytes": 1}}
    routing = {"checkpoint": str(pair / "router.safetensors")}
    server = Server({"server": {"port": 0, "admin_port": 0}, "pool": [member], "routing": routing}, engine_env)
    try:
        assert server.process.wait(WORK_S) == 1
        last = server.said().strip().splitlines()[-1]
        assert last.startswith("headgate: error: engine 'one' failed to start: ")
        assert "KV cache" in last or "memory" in last, last
        assert server.processes() == []
    finally:
        server.close()
