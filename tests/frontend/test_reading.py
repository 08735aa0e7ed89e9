"""Large bodies are read in a thread: the event loop goes on, and whoever waits for one can still leave or be ended."""

import asyncio
import gc
import json
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from router.errors import BadRequest
from router.frontend import exchange as exchanges
from router.frontend import reading
from router.pipeline.threads import LARGE_BODY_BYTES
from tests.conftest import until
from tests.frontend.conftest import House, ScriptedService, chat, get

LARGE = "a" * (LARGE_BODY_BYTES + 1)


class Gate:
    """Holds the thread that reads until it is opened."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.reads = 0

    def read(self, *arguments: Any) -> Any:
        self.reads += 1
        assert self.open.wait(60)
        return self._read(*arguments)

    _read = staticmethod(reading.read)


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    gate = Gate()
    monkeypatch.setattr(reading, "read", gate.read)
    yield gate
    gate.open.set()


async def test_other_requests_are_answered_while_a_large_body_is_read(
    house: House, replying: ScriptedService, gate: Gate
) -> None:
    frontend = await house.start(replying)
    large, other = await house.connect(frontend), await house.connect(frontend)
    large.send(chat(model=LARGE[:9], padding=LARGE) + get("/health"))
    await until(lambda: gate.reads)
    other.send(chat())
    assert (await other.response()).status == 200
    assert len(replying.requests) == 1
    gate.open.set()
    assert (await large.response()).status == 200  # and what was sent behind it comes behind it
    assert (await large.response()).body == b'{"status":"ok"}'
    assert (replying.requests[1].query.model, len(replying.requests[1].body) > len(LARGE)) == (LARGE[:9], True)


@pytest.mark.parametrize(
    ("fields", "message", "param"),
    [
        ({"messages": []}, "`messages` is empty; expected at least one message", "messages"),
        ({"messages": [{"role": "u"}, 7]}, "`messages[1]`: expected `object`, got `int`", "messages[1]"),
        ({"n": 0}, "`n`: expected 1 to 1024, got 0", "n"),
    ],
)
async def test_a_large_body_is_refused_as_a_small_one(
    house: House, replying: ScriptedService, fields: dict[str, object], message: str, param: str
) -> None:
    client = await house.connect(await house.start(replying))
    for padding in ("", LARGE):
        client.send(chat("x-request-id: mine", padding=padding, **fields))
        response = await client.response()
        assert (response.status, response.headers["x-request-id"]) == (400, "mine")
        assert response.error == {
            "message": message, "type": "invalid_request_error", "param": param, "code": 400
        }  # fmt: skip
    assert replying.requests == []


async def test_a_client_that_leaves_while_its_body_is_read_is_not_answered(
    house: House, replying: ScriptedService, gate: Gate
) -> None:
    frontend = await house.start(replying)
    listener = frontend._public
    clients = [await house.connect(frontend) for _ in range(3)]
    for client in clients:
        client.send(chat(padding=LARGE))
    await until(lambda: listener.running == 3 and gate.reads, lambda: listener.running)
    assert listener.gate.slots.pending_bytes > 3 * len(LARGE)
    for client in clients:
        await client.close()
    await until(lambda: listener.running == 0, lambda: listener.running)
    assert (listener.body_bytes, listener.gate.slots.pending_bytes) == (0, 0)
    gate.open.set()
    last = await house.connect(frontend)
    last.send(chat(padding=LARGE))
    assert (await last.response()).status == 200
    assert (len(replying.requests), gate.reads) == (1, 2)  # of those that left only the one that was begun is read
    page = frontend.metrics.page()
    assert b'headgate_requests_total{model="",route="/v1/chat/completions",status="499"} 3' in page
    assert b'headgate_errors_total{type="client_closed_request"} 3' in page


async def test_bodies_that_are_being_read_count_in_the_bound_on_all_bodies(
    house: House, replying: ScriptedService, gate: Gate
) -> None:
    frontend = await house.start(replying, pending_bytes=2 * len(LARGE))
    first, second = await house.connect(frontend), await house.connect(frontend)
    first.send(chat(padding=LARGE))
    await until(lambda: gate.reads)
    second.send(chat(padding=LARGE))
    response = await second.response()
    assert (response.status, response.error["type"]) == (429, "rate_limit_error")
    gate.open.set()
    assert (await first.response()).status == 200


async def test_requests_whose_body_is_being_read_count_as_in_flight(
    house: House, replying: ScriptedService, gate: Gate
) -> None:
    frontend = await house.start(replying, in_flight=1)
    first, second = await house.connect(frontend), await house.connect(frontend)
    first.send(chat(padding=LARGE))
    await until(lambda: gate.reads)
    second.send(chat())
    assert (await second.response()).error["message"] == "1 requests are in flight, the most allowed"
    gate.open.set()
    assert (await first.response()).status == 200


async def test_a_large_body_whose_turn_comes_while_it_is_read_is_answered_once_it_is_read(
    house: House, service: ScriptedService, gate: Gate
) -> None:
    frontend = await house.start(service, in_flight=1, queue_requests=1)
    slots = frontend._public.gate.slots
    first, large = await house.connect(frontend), await house.connect(frontend)
    first.send(chat())
    running = await service.asked()
    large.send(chat(padding=LARGE))
    await until(lambda: gate.reads and slots.waiting)
    running.reply()
    assert (await first.response()).status == 200
    await until(lambda: slots.running == 1 and not slots.waiting)
    gate.open.set()
    (await service.asked(2)).reply()
    assert (await large.response()).status == 200
    assert slots.running == 0


async def test_a_large_body_that_waits_too_long_for_its_turn_while_it_is_read_is_refused(
    house: House, service: ScriptedService, gate: Gate
) -> None:
    frontend = await house.start(service, in_flight=1, queue_requests=1, queue_s=0.01)
    first, large = await house.connect(frontend), await house.connect(frontend)
    first.send(chat())
    running = await service.asked()
    large.send(chat(padding=LARGE))
    response = await large.response()
    assert (response.status, response.error["code"]) == (429, "overloaded")
    running.reply()
    gate.open.set()
    assert (await first.response()).status == 200
    assert len(service.requests) == 1


async def test_a_deadline_that_passes_while_the_body_is_read_is_answered_then(
    house: House, replying: ScriptedService, gate: Gate
) -> None:
    client = await house.connect(await house.start(replying))
    client.send(chat("x-headgate-deadline: 0.2", padding=LARGE))
    response = await client.response()
    assert (response.status, response.error["message"]) == (
        504, "the request was not complete, or its turn not come, within 0.2 s"
    )  # fmt: skip
    gate.open.set()
    client.send(chat())
    assert (await client.response()).status == 200
    assert len(replying.requests) == 1


async def test_a_deadline_that_is_no_number_is_refused_behind_a_large_body_too(
    house: House, replying: ScriptedService
) -> None:
    client = await house.connect(await house.start(replying))
    client.send(chat("x-headgate-deadline: soon", padding=LARGE))
    assert (await client.response()).error["message"] == "`x-headgate-deadline`: expected seconds above 0"


async def test_a_drain_ends_a_request_whose_body_is_still_read(
    house: House, replying: ScriptedService, gate: Gate
) -> None:
    frontend = await house.start(replying, drain_s=0.1)
    client = await house.connect(frontend)
    client.send(chat(padding=LARGE))
    await until(lambda: gate.reads)
    draining = asyncio.ensure_future(frontend.drain())
    response = await client.response()
    assert (response.status, response.error["message"]) == (503, "the server is shutting down")
    assert await client.closed()
    assert await draining is False


async def test_a_fault_of_ours_while_reading_ends_that_request_alone(
    house: House, replying: ScriptedService, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*arguments: object) -> Any:
        raise ZeroDivisionError("a fault of ours")

    client = await house.connect(await house.start(replying))
    with monkeypatch.context() as patch:
        patch.setattr(reading, "read", fail)
        client.send(chat(padding=LARGE))
        assert (await client.response()).status == 500
    client.send(chat(padding=LARGE))
    assert (await client.response()).status == 200
    assert "internal error while answering a request" in caplog.text


async def test_the_event_loop_spends_no_time_on_reading_a_large_body(
    house: House, replying: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Processor time of the loop's thread: however busy the machine, no more is counted."""
    fields: dict[str, Any] = {
        "messages": [{"role": "user", "content": "hi"}] * 100_000,
        "tools": [{"type": "function"}],
    }
    begun = time.thread_time()
    reading.read("chat", json.dumps(fields).encode())
    in_place_s = time.thread_time() - begun

    spent: list[float] = []
    run = exchanges.Exchange.run

    def timed(exchange: exchanges.Exchange) -> None:
        begun = time.thread_time()
        run(exchange)
        spent.append(time.thread_time() - begun)

    monkeypatch.setattr(exchanges.Exchange, "run", timed)
    client = await house.connect(await house.start(replying))
    client.send(chat(**fields))
    assert (await client.response()).status == 200
    assert len(replying.requests[0].query.turns) == 100_000
    assert spent[0] < 0.3 * in_place_s


async def test_what_reading_raises_is_the_answer_however_late(
    house: House, replying: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> Any:
        raise BadRequest("expected another body", param="messages")

    monkeypatch.setattr(reading, "read", refuse)
    client = await house.connect(await house.start(replying))
    client.send(chat(padding=LARGE) + chat())
    assert (await client.response()).error["message"] == "expected another body"
    assert (await client.response()).status == 200


async def test_a_large_body_that_is_refused_is_freed_without_the_cycle_collector(
    house: House, replying: ScriptedService, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Body:
        """Kept by the frame that raises."""

    kept: list[weakref.ref[Body]] = []

    def refuse(*arguments: object) -> Any:
        body = Body()
        kept.append(weakref.ref(body))
        raise BadRequest(f"expected another {type(body).__name__}", param="messages")

    monkeypatch.setattr(reading, "read", refuse)
    client = await house.connect(await house.start(replying))
    gc.disable()
    try:
        client.send(chat(padding=LARGE))
        assert (await client.response()).error["message"] == "expected another Body"
        await until(lambda: kept[0]() is None)
    finally:
        gc.enable()
