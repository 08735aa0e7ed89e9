"""Answers of several legs by real engines: drafts judged, texts handed over, engines lost, clients that leave.

The zoo's small and large model are behind one server. Their costs are stated so that the small one begins where the
choice can be made again, and the large one where it cannot. The verifier is the zoo's own but for running answers, of
which it says from 3 tokens on that they will be wrong. The tests run in order; the last one kills an engine.
"""

import http.client
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import pytest
import yaml

from router.artefacts import artefact as artefacts
from router.verify.judged import Running
from router.watched import Figures
from tests.conftest import PATIENCE_S, wait_until
from tests.e2e.test_serve import Server, serving

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

#: The small model answers the hard one wrongly and without certainty, the large one rightly; the easy one both rightly.
HARD, WRONG, RIGHT = "Add 773+322.", "3+2=5 7+2=9 7+3=10 so 1093", "3+2=5 7+2=9 7+3=10 so 1095"
EASY, SO = "0+5+0 mod 8=", "0+5=5 5+0=5 so 5"
SMALL, LARGE = "zoo-small", "zoo-large"
LONG = {"max_tokens": 400, "ignore_eos": True}
DOUBTED = Running(tokens=(3.0, 400.0), intercept=(-6.0, -6.0), slope=(0.0, 0.0), prior_weight=(0.0, 0.0), left=(20, 1))


class Answer(NamedTuple):
    headers: dict[str, str]
    text: str
    usage: dict[str, Any]
    finish_reason: str
    segments: dict[str, str] = {}  #: text by its model, as a stream's marks tell

    @property
    def legs(self) -> str:
        return self.headers.get("x-headgate-legs", "")


def doubting(verifier: Path, path: Path) -> Path:
    """`verifier` with `DOUBTED` for every running answer, at `path`."""
    artefact = artefacts.read(verifier)
    judge = artefact.meta.options["judge"] | {"running": {"": msgspec.to_builtins(DOUBTED)}}
    options = {**artefact.meta.options, "judge": judge}
    meta = msgspec.structs.replace(artefact.meta, options=options)
    artefacts.write(path, msgspec.structs.replace(artefact, meta=meta))
    return path


@pytest.fixture(scope="module")
def journal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("journal")


@pytest.fixture(scope="module")
def server(root: Path, journal: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("vllm", reason="serving needs vLLM")
    zoo = root / "examples" / "zoo"
    config = yaml.safe_load((zoo / "headgate.yaml").read_text())
    rates = {SMALL: (0.02, 0.001), LARGE: (12.0, 0.01)}  # dollars an hour, seconds a token
    config["pool"] = [member for member in config["pool"] if member["name"] in rates]
    for member in config["pool"]:
        usd, token_s = rates[member["name"]]
        member |= {"model": str(zoo / member["model"]), "gpu_share": 0.5, "usd_per_hour": usd}
        member |= {"time_per_output_token_s": token_s, "prefill_tokens_per_s": 1e4, "mean_output_tokens": 25}
    verifier = doubting(zoo / "verifier.safetensors", tmp_path_factory.mktemp("judge") / "verifier.safetensors")
    config["server"] |= {"port": 0, "admin_port": 0}
    config["journal"] = {"path": str(journal)}
    config["routing"] |= {"checkpoint": str(zoo / "router.safetensors"), "verifier": str(verifier)}
    with serving(config, dict(os.environ)) as made:
        yield made


def body_of(prompt: str, **more: Any) -> dict[str, Any]:
    turns = [{"role": "user", "content": prompt}]
    asked = {"model": "auto", "messages": turns, "temperature": 0, "max_tokens": 64} | more
    return asked | ({"stream_options": {"include_usage": True}} if asked.get("stream") else {})


def send(server: Server, choice: str, body: dict[str, Any]) -> http.client.HTTPConnection:
    place = urlsplit(server.url)
    assert place.hostname is not None
    connection = http.client.HTTPConnection(place.hostname, place.port, timeout=PATIENCE_S)
    headers = {"content-type": "application/json", "x-headgate-choice": choice, "x-headgate-debug": "true"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
    return connection


def ask(server: Server, choice: str, prompt: str, **more: Any) -> Answer:
    body = body_of(prompt, **more)
    connection = send(server, choice, body)
    try:
        response = connection.getresponse()
        data, headers = response.read(), {name.lower(): value for name, value in response.getheaders()}
    finally:
        connection.close()
    assert response.status == 200, data
    if body.get("stream"):
        return streamed(data, headers)
    answer = json.loads(data)
    first = answer["choices"][0]
    return Answer(headers, first["message"]["content"] or "", answer["usage"], first["finish_reason"])


def streamed(data: bytes, headers: dict[str, str]) -> Answer:
    """A stream that is one answer, however many models wrote it."""
    *parts, done, end = data.decode().split("\n\n")
    assert (done, end) == ("data: [DONE]", "")
    events = [json.loads(part.removeprefix("data: ")) for part in parts]
    assert not [event for event in events if "error" in event]
    assert len({(event["id"], event["created"], event["model"]) for event in events}) == 1
    choices = [choice for event in events for choice in event["choices"]]
    assert [bool(choice["delta"].get("role")) for choice in choices] == [True] + [False] * (len(choices) - 1)
    (finish_reason,) = [choice["finish_reason"] for choice in choices if choice["finish_reason"]]
    (usage,) = [event["usage"] for event in events if event.get("usage")]
    segments: dict[str, str] = {}
    model = ""
    for event in events:
        model = event.get("headgate", {}).get("model", model)
        told = "".join(choice["delta"].get("content") or "" for choice in event["choices"])
        segments[model] = segments.get(model, "") + told
    return Answer(headers, "".join(segments.values()), usage, finish_reason, segments)


def record_of(journal: Path, answer: Answer) -> dict[str, Any]:
    """The one record of an answer."""
    id = answer.headers["x-headgate-decision-id"]

    def found() -> list[dict[str, Any]]:
        return [record for record in records(journal) if record["id"] == id]

    wait_until(lambda: bool(found()), lambda: id)
    (record,) = found()
    return record


def records(journal: Path) -> list[dict[str, Any]]:
    lines = [line for file in journal.glob("*.jsonl") for line in file.read_text().splitlines(keepends=True)]
    told = [json.loads(line) for line in lines if line.endswith("\n")]
    return [line for line in told if line["type"] == "request"]


def told_of(record: dict[str, Any]) -> list[tuple[str, str, bool]]:
    """Model, why, and whether the client never saw it, leg by leg."""
    return [(leg["model"], leg.get("why", ""), leg.get("dropped", False)) for leg in record["legs"]]


both_ways = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


@both_ways
def test_hard_prompt_s_draft_is_dropped_and_the_client_is_told_the_large_model_s_answer(
    server: Server, journal: Path, stream: bool
) -> None:
    answer = ask(server, "cascade", HARD, stream=stream)
    assert (answer.text, answer.finish_reason, answer.legs) == (RIGHT, "stop", f"{SMALL},{LARGE}")
    made = answer.usage["headgate"]
    assert list(made) == [SMALL, LARGE]
    assert made[LARGE] == answer.usage["completion_tokens"]
    record = record_of(journal, answer)
    assert told_of(record) == [(SMALL, "", True), (LARGE, "cascade", False)]
    assert [leg["completion_tokens"] for leg in record["legs"]] == list(made.values())
    assert (record["model"], record["end"]) == (LARGE, "finish")


@both_ways
def test_easy_prompt_s_draft_is_the_answer(server: Server, journal: Path, stream: bool) -> None:
    answer = ask(server, "cascade", EASY, stream=stream)
    assert (answer.text, answer.finish_reason, answer.legs) == (SO, "stop", "")
    assert "headgate" not in answer.usage
    assert told_of(record_of(journal, answer)) == [(SMALL, "", False)]


@both_ways
def test_text_that_the_watch_stopped_goes_on_in_the_large_model_as_one_answer(
    server: Server, journal: Path, stream: bool
) -> None:
    answer = ask(server, "handoff", HARD, stream=stream)
    assert (answer.text, answer.finish_reason) == (RIGHT, "stop")
    made = answer.usage["headgate"]
    assert list(made) == [SMALL, LARGE]
    assert min(made.values()) > 0
    assert sum(made.values()) == answer.usage["completion_tokens"]
    if stream:
        assert answer.segments == {SMALL: "3+2=5", LARGE: RIGHT.removeprefix("3+2=5")}
    else:
        assert answer.legs == f"{SMALL},{LARGE}"
    record = record_of(journal, answer)
    assert told_of(record) == [(SMALL, "", False), (LARGE, "handoff", False)]
    assert [leg["completion_tokens"] for leg in record["legs"]] == list(made.values())
    assert msgspec.convert(record["legs"][0]["figures"], Figures).tokens == made[SMALL] + 1
    assert record["completion_tokens"] == answer.usage["completion_tokens"]


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize("choice", ["handoff", "cascade"])
@pytest.mark.parametrize(
    "more",
    [
        {"n": 2, "temperature": 1},
        {"tools": [TOOL], "tool_choice": "none"},
        {"response_format": {"type": "json_object"}, "max_tokens": 16},
        {"logprobs": True, "top_logprobs": 1},
    ],
    ids=["two choices", "tools", "response_format", "logprobs"],
)
def test_what_one_engine_must_write_has_one_leg(
    server: Server, journal: Path, choice: str, more: dict[str, Any]
) -> None:
    answer = ask(server, choice, HARD, **more)
    assert answer.legs == ""
    assert "headgate" not in answer.usage
    (leg,) = told_of(record_of(journal, answer))
    assert leg[1:] == ("", False)


def test_client_that_leaves_while_its_draft_is_held_leaves_nothing_running_and_one_record(
    server: Server, journal: Path
) -> None:
    before = len(records(journal))
    connection = send(server, "cascade", body_of(HARD, stream=True, **LONG))
    wait_until(lambda: server.members()[SMALL]["in_flight"] == 1, server.members)
    connection.close()
    wait_until(lambda: len(records(journal)) > before, lambda: "no record")
    names = (SMALL, LARGE)
    wait_until(lambda: not any(server.members()[name]["in_flight"] for name in names), server.members)
    wait_until(lambda: not any(server.members()[name]["state"]["running"] for name in names), server.members)
    (record,) = records(journal)[before:]
    assert (record["end"], record["status"], record.get("streamed", False)) == ("cancel", 499, False)
    assert [(leg["model"], leg["end"]) for leg in record["legs"]] == [(SMALL, "cancel")]


def test_answer_whose_engine_is_killed_goes_on_in_the_other_one_as_one_answer(server: Server, journal: Path) -> None:
    connection = send(server, "before", body_of(EASY, stream=True, **LONG))
    try:
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        first = response.readline()
        members = server.members()
        (writer,) = [name for name in (SMALL, LARGE) if members[name]["in_flight"]]
        os.kill(members[writer]["pid"], signal.SIGKILL)
        answer = streamed(first + response.read(), headers)
    finally:
        connection.close()
    heir = SMALL if writer == LARGE else LARGE
    assert answer.text.startswith(SO)
    assert answer.finish_reason == "length"
    assert list(answer.segments) == ["", heir]  # what was decided before only names its model in the headers
    assert answer.headers["x-headgate-model"] == writer
    assert answer.usage["completion_tokens"] == LONG["max_tokens"] == sum(answer.usage["headgate"].values())
    legs = [(leg["model"], leg.get("why", ""), leg["end"]) for leg in record_of(journal, answer)["legs"]]
    assert legs == [(writer, "", "error"), (heir, "lost", "finish")]
