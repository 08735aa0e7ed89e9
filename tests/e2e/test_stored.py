"""Stored and background Responses of a real engine, by OpenAI's client. The tests share one server."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from router.ipc.response_ids import holder_of
from tests.conftest import wait_until
from tests.e2e.serving import Server

pytestmark = [pytest.mark.engine, pytest.mark.timeout(1200)]

LONG = {"max_output_tokens": 400, "extra_body": {"ignore_eos": True, "temperature": 0}}


@pytest.fixture(scope="module")
def server(pair: Path, engine_env: dict[str, str]) -> Iterator[Server]:
    server = Server(pair / "small", {**engine_env, "VLLM_ENABLE_RESPONSES_API_STORE": "1"})
    yield server
    server.close()


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with server.client() as client:
        yield client


def load(server: Server) -> int:
    return int(server.ask("/load")[1]["server_load"])


def test_a_stored_answer_is_retrieved_and_gone_on_from(server: Server, client: openai.OpenAI) -> None:
    made = client.responses.create(model="auto", input="What is 12 + 30?", max_output_tokens=8)
    assert holder_of(made.id) is not None
    again = client.responses.retrieve(made.id)
    assert (again.id, again.status, again.output_text) == (made.id, made.status, made.output_text)
    after = client.responses.create(model="auto", input="and 1 + 1?", previous_response_id=made.id, max_output_tokens=4)
    assert after.previous_response_id == made.id
    assert after.usage is not None
    assert made.usage is not None
    assert after.usage.input_tokens > made.usage.input_tokens


def test_an_answer_in_the_background_is_made_while_nobody_waits(server: Server, client: openai.OpenAI) -> None:
    queued = client.responses.create(model="auto", input="count", background=True, max_output_tokens=32)
    assert queued.status == "queued"
    wait_until(lambda: client.responses.retrieve(queued.id).status not in ("queued", "in_progress"))
    assert client.responses.retrieve(queued.id).output_text
    wait_until(lambda: load(server) == 0)
    with pytest.raises(openai.BadRequestError, match=r"Cannot cancel a synchronous response\."):
        client.responses.cancel(queued.id)


def test_an_answer_in_the_background_is_cancelled(server: Server, client: openai.OpenAI) -> None:
    queued = client.responses.create(model="auto", input="count", background=True, **LONG)  # type: ignore[call-overload]
    assert client.responses.cancel(queued.id).status == "cancelled"
    assert client.responses.retrieve(queued.id).status == "cancelled"
    wait_until(lambda: load(server) == 0)
    (member,) = server.ask("/members", admin=True)[1]["members"]
    assert (member["phase"], member["state"]["running"]) == ("ready", 0)


def test_a_stream_that_was_left_is_read_on(server: Server, client: openai.OpenAI) -> None:
    asked: Any = {"model": "auto", "input": "count", "background": True, "stream": True, "max_output_tokens": 48}
    events = []
    with client.responses.create(**asked) as stream:
        for event in stream:
            events.append(event)
            if len(events) == 5:
                break
    id, last = events[0].response.id, events[-1].sequence_number
    with client.responses.retrieve(id, stream=True, starting_after=last) as stream:
        events += list(stream)
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[-1].type == "response.completed"
    wait_until(lambda: load(server) == 0)


def test_a_stream_of_a_cancelled_answer_ends(server: Server, client: openai.OpenAI) -> None:
    asked: Any = {"model": "auto", "input": "count", "background": True, "stream": True, **LONG}
    with client.responses.create(**asked) as stream:
        first = next(iter(stream))
        client.responses.cancel(first.response.id)
        last: Any = list(stream)[-1]
    assert (last.type, last.message) == (
        "error",
        f"response {first.response.id!r} is cancelled: its stream does not go on",
    )
    wait_until(lambda: load(server) == 0)


def test_an_unknown_id_is_not_found_in_vllms_words(server: Server, client: openai.OpenAI) -> None:
    for unknown in ("resp_unknown", "resp_" + 32 * "0"):
        with pytest.raises(openai.NotFoundError, match=f"Response with id '{unknown}' not found"):
            client.responses.retrieve(unknown)
        with pytest.raises(openai.NotFoundError, match="not found"):
            client.responses.cancel(unknown)
        with pytest.raises(openai.NotFoundError, match="not found"):
            client.responses.create(model="auto", input="x", previous_response_id=unknown)


def test_an_answer_that_is_not_to_be_stored_is_not(client: openai.OpenAI) -> None:
    made = client.responses.create(model="auto", input="x", store=False, max_output_tokens=4)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(made.id)
