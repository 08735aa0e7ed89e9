"""Stored answers in the host, over a small application that stores as vLLM's serving class does. No vLLM here."""

import asyncio
import json
import os
from types import SimpleNamespace

import pytest

from router.host.adapter import stored
from router.host.adapter.slow import SlowWay
from router.host.adapter.stored import StoredAnswers
from router.ipc.messages import Submit
from router.ipc.response_ids import holder, holder_of
from router.types import STORED_PATH, Usage
from tests.conftest import PATIENCE_S, until
from tests.host.adapter.test_slow import Heard, answering

USAGE = SimpleNamespace(input_tokens=3, output_tokens=4, input_tokens_details=SimpleNamespace(cached_tokens=1))


class Serving:
    """vLLM's, as far as it is looked at."""

    def __init__(self):
        self.response_store, self.msg_store, self.event_store, self.background_tasks = {}, {}, {}, {}
        self.made = asyncio.Event()
        self.status = "completed"
        self.cancelled = []

    async def make(self, id, events=0):
        """A background task."""
        response = self.response_store[id] = SimpleNamespace(background=True, status="queued", usage=None)
        self.event_store[id] = list(range(events))
        task = self.background_tasks[id] = asyncio.create_task(self.made.wait())
        task.add_done_callback(lambda _: self.background_tasks.pop(id))
        await asyncio.sleep(0)
        task.add_done_callback(lambda _: setattr(response, "status", self.status))
        if self.status == "completed":
            response.usage = USAGE

    async def cancel_responses(self, id):
        self.cancelled.append(id)
        self.status = self.response_store[id].status = "cancelled"
        self.made.set()

    async def responses_background_stream_generator(self, response_id, starting_after=None):
        for event in self.event_store[response_id][starting_after or 0 :]:
            yield event
            if event == "end":
                return
        await asyncio.Event().wait()  # for ever, as vLLM's


def application(serving):
    """Answers a background request at once, and streams what is stored."""

    async def app(scope, receive, send):
        body = (await receive())["body"]
        if scope["path"] == "/v1/responses":
            asked = json.loads(body)
            app.ids.append(asked["request_id"])
            if asked.get("background"):
                await serving.make(asked["request_id"])
        await answering(200, b'{"status": "queued"}')(scope, _whole(body), send)

    app.ids = []
    app.state = SimpleNamespace(openai_serving_responses=serving)
    return app


def _whole(body):
    async def receive():
        return {"type": "http.request", "body": body or b"{}", "more_body": False}

    return receive


def start(app, body, kind="responses", **more):
    heard = Heard()
    heard.untimed_calls = 0
    heard.untimed = lambda: setattr(heard, "untimed_calls", heard.untimed_calls + 1)
    way = SlowWay(app, "tiny", asyncio.get_running_loop(), **more)
    heard.stop = way.start(Submit(id=1, kind=kind, body=json.dumps(body).encode()), heard)
    return heard


async def ended(heard):
    await asyncio.wait_for(heard.ended.wait(), PATIENCE_S)
    return heard


async def test_each_answer_has_an_id_that_tells_its_member_and_process():
    app = application(Serving())
    await ended(start(app, {"input": "x"}))
    await ended(start(app, {"input": "x"}))
    assert [holder_of(id) for id in app.ids] == [holder("tiny", os.getpid())] * 2
    assert len(set(app.ids)) == 2


async def test_an_id_that_the_client_chose_is_kept():
    app = application(Serving())
    await ended(start(app, {"input": "x", "request_id": "mine"}))
    assert app.ids == ["mine"]


async def test_a_background_answer_is_told_of_at_once_and_ends_when_it_is_made():
    serving = Serving()
    heard = start(application(serving), {"input": "x", "background": True})
    await until(lambda: heard.chunks == [b'{"status": "queued"}'])
    assert not heard.ended.is_set()
    assert heard.untimed_calls == 1
    serving.made.set()
    await ended(heard)
    assert (heard.usage, heard.finish_reason) == (Usage(3, 4, 1), "stop")


async def test_an_abort_cancels_a_background_answer():
    serving = Serving()
    app = application(serving)
    heard = start(app, {"input": "x", "background": True})
    await until(lambda: heard.chunks)
    heard.stop()
    await until(lambda: serving.cancelled == app.ids)
    assert heard.failure is None


@pytest.mark.parametrize(
    ("status", "dead", "expected"),
    [("cancelled", False, (499, "response_cancelled")), ("failed", False, (502, "engine_failed")),
     ("queued", True, (502, "engine_failed"))],
)  # fmt: skip
async def test_a_background_answer_that_does_not_come_ends_in_an_error(status, dead, expected):
    serving = Serving()
    serving.status = status
    heard = start(application(serving), {"input": "x", "background": True}, dead=lambda: dead)
    await until(lambda: heard.chunks)
    serving.made.set()
    await ended(heard)
    assert (heard.failure.status, heard.failure.code) == expected
    (response,) = serving.response_store.values()
    assert response.status == ("failed" if status == "queued" else status)  # nobody polls it for ever


async def read(serving, id):
    return [event async for event in serving.responses_background_stream_generator(id)]


async def test_a_stream_of_a_stored_answer_ends_where_it_ends():
    serving = Serving()
    StoredAnswers(serving)
    serving.event_store["a"] = [1, 2, "end"]
    assert await read(serving, "a") == [1, 2, "end"]


async def test_a_stream_of_an_answer_that_was_cancelled_ends_in_an_error():
    pytest.importorskip("fastapi")
    serving = Serving()
    answers = StoredAnswers(serving)
    await serving.make("a", events=2)
    reading = asyncio.ensure_future(read(serving, "a"))
    await asyncio.sleep(0.01)
    assert not reading.done()
    await answers.cancel("a")
    with pytest.raises(Exception, match="response 'a' is cancelled: its stream does not go on") as error:
        await asyncio.wait_for(reading, PATIENCE_S)
    assert error.value.status_code == 409


async def test_the_oldest_answers_are_dropped_over_the_bound(monkeypatch):
    monkeypatch.setattr(stored, "MOST_ANSWERS", 2)
    serving = Serving()
    StoredAnswers(serving)
    for id in "abc":
        serving.response_store[id] = id
    assert list(serving.response_store) == ["b", "c"]


@pytest.mark.parametrize("path", ["/v1/chat/completions", STORED_PATH, STORED_PATH + "a/b", "/sleep"])
async def test_no_other_route_is_reached(path):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    heard = await ended(start(application(Serving()), {"path": path}, kind="stored"))
    assert heard.failure.status == 502
    assert "is no route for requests of kind stored" in str(told[0])


async def test_a_stored_answer_counts_no_tokens_again():
    seen = {}
    body = b'{"usage": {"input_tokens": 3, "output_tokens": 4}}'
    heard = await ended(
        start(answering(200, body, seen=seen), {"path": STORED_PATH + "a", "body": "{}"}, kind="stored")
    )
    assert (seen["scope"]["method"], seen["scope"]["path"]) == ("GET", STORED_PATH + "a")
    assert heard.usage == Usage()
    assert heard.untimed_calls == 1
