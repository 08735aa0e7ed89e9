"""Answers that are made whether or not their client waits, and stored ones that are asked for: the frontend's part."""

import asyncio
import time

import pytest

from router.errors import EngineFailed
from router.frontend.stored import STORED_PATH
from router.ipc.messages import Done
from router.types import Query, Usage
from tests.conftest import until
from tests.frontend.conftest import DECISION, House, Request, ScriptedService, get, post

QUEUED = b'{"id": "resp_1", "status": "queued"}'
DONE = Done(id=1, usage=Usage(3, 4))


def background(**fields: object) -> bytes:
    return post("/v1/responses", {"input": "x", "background": True, **fields})


async def begun(house: House, service: ScriptedService, **fields: object) -> tuple[Request, object]:
    client = await house.connect(await house.start(service))
    client.send(background(**fields))
    return await service.asked(), client


async def test_the_client_is_told_before_the_answer_is_made(house: House, service: ScriptedService) -> None:
    request, client = await begun(house, service)
    assert request.query.background
    request.sink.start(DECISION)
    request.sink.chunk(QUEUED[:9])  # a long one comes in pieces
    request.sink.chunk(QUEUED[9:])
    response = await client.response()  # type: ignore[attr-defined]
    assert (response.status, response.body) == (200, QUEUED)
    client.send(get("/health"))  # type: ignore[attr-defined]
    assert (await client.response()).status == 200  # type: ignore[attr-defined]
    request.sink.done(DONE)
    assert not request.cancelled


TRICKY = rb' {"id": "resp_1", "text": "a } \" ] \\", "more": [{"b}": "\u007d \\\" }"}, []]}'


@pytest.mark.parametrize("size", [1, 2, 3, 7, len(TRICKY)])
async def test_an_answer_in_pieces_is_whole_at_its_last_bracket_and_not_at_those_in_its_texts(
    house: House, service: ScriptedService, size: int
) -> None:
    request, client = await begun(house, service)
    request.sink.start(DECISION)
    for at in range(0, len(TRICKY), size):
        request.sink.chunk(TRICKY[at : at + size])
    response = await client.response()  # type: ignore[attr-defined]
    assert (response.status, response.body) == (200, TRICKY)


async def test_an_answer_eight_times_as_long_takes_no_more_than_some_eight_times_the_time(
    house: House, service: ScriptedService
) -> None:
    async def cpu_s(pieces: int) -> float:
        request, client = await begun(house, service)
        request.sink.start(DECISION)
        request.sink.chunk(b'{"id": "resp_1", "text": "')
        began_s = time.process_time()
        for _ in range(pieces):
            request.sink.chunk(b"word " * 16)
        took_s = time.process_time() - began_s
        request.sink.chunk(b'"}')
        assert (await client.response()).status == 200  # type: ignore[attr-defined]
        service.requests.clear()
        return took_s

    short_s = min([await cpu_s(1_000) for _ in range(3)])
    long_s = min([await cpu_s(8_000) for _ in range(3)])
    assert long_s < 30 * short_s  # 64 times where each piece looks at all that came before


async def test_a_client_that_leaves_once_it_was_told_ends_nothing(house: House, service: ScriptedService) -> None:
    request, client = await begun(house, service, stream=True)
    request.sink.start(DECISION)
    request.sink.chunk(b"event: response.created\ndata: {}\n\n")
    assert (await client.head())[0] == 200  # type: ignore[attr-defined]
    await client.close()  # type: ignore[attr-defined]
    await until(lambda: not house.frontends[0].connections)
    assert not request.cancelled
    request.sink.chunk(b"event: response.completed\ndata: {}\n\n")
    request.sink.done(DONE)


async def test_a_client_that_leaves_before_it_was_told_takes_the_request_along(
    house: House, service: ScriptedService
) -> None:
    request, client = await begun(house, service)
    await client.close()  # type: ignore[attr-defined]
    await until(lambda: request.cancelled)


async def test_a_stream_in_the_background_is_passed_on_to_its_end(house: House, service: ScriptedService) -> None:
    request, client = await begun(house, service, stream=True)
    request.sink.start(DECISION)
    request.sink.chunk(b"event: a\ndata: {}\n\n")
    request.sink.done(DONE)
    response = await client.response()  # type: ignore[attr-defined]
    assert response.body == b"event: a\ndata: {}\n\n"


async def test_a_refusal_reaches_the_client(house: House, service: ScriptedService) -> None:
    request, client = await begun(house, service)
    request.sink.fail(EngineFailed("no store"))
    assert (await client.response()).status == 502  # type: ignore[attr-defined]


async def test_what_fails_after_the_client_was_told_disturbs_nobody(house: House, service: ScriptedService) -> None:
    request, client = await begun(house, service)
    request.sink.start(DECISION)
    request.sink.chunk(QUEUED)
    assert (await client.response()).status == 200  # type: ignore[attr-defined]
    request.sink.fail(EngineFailed("lost"))
    client.send(get("/health"))  # type: ignore[attr-defined]
    assert (await client.response()).status == 200  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("data", "path", "query", "streamed"),
    [
        (get("/v1/responses/resp_1"), "resp_1", "", False),
        (get("/v1/responses/resp_1?stream=true&starting_after=3"), "resp_1", "stream=true&starting_after=3", True),
        (get("/v1/responses/resp_1?stream=0"), "resp_1", "stream=0", False),
        (get("/v1/responses/my-own.id:2"), "my-own.id:2", "", False),
        (get("/v1/responses/resp_1/cancel", method="POST"), "resp_1/cancel", "", False),
        (post("/v1/responses/resp_1/cancel?stream=1", b"{}"), "resp_1/cancel", "stream=1", False),
        (get("/v1/responses/cancel"), "cancel", "", False),
        (get("/v1/responses/cancel/cancel", method="POST"), "cancel/cancel", "", False),
    ],
)
async def test_a_stored_answer_is_asked_of_its_member(
    house: House, replying: ScriptedService, data: bytes, path: str, query: str, streamed: bool
) -> None:
    client = await house.connect(await house.start(replying))
    client.send(data)
    assert (await client.response()).status == 200
    (request,) = replying.requests
    expected = Query(kind="stored", model="auto", turns=(), response_id=path.removesuffix("/cancel"), stream=streamed)
    assert (request.query.response_id, request.query.stream) == (expected.response_id, streamed)
    assert request.query.kind == "stored"
    assert request.body == b'{"path":"%b","query":"%b","body":""}' % ((STORED_PATH + path).encode(), query.encode())


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (get("/v1/responses/resp_1", method="POST"), 405),
        (get("/v1/responses/cancel", method="POST"), 405),
        (get("/v1/responses/resp_1", method="DELETE"), 405),
        (get("/v1/responses/resp_1/input_items"), 404),
        (get("/v1/responses/a%20b"), 404),
        (get("/v1/responses/" + "a" * 257), 404),
        (get("/v1/responses//cancel", method="POST"), 404),
    ],
)
async def test_nothing_else_is_asked_of_it(house: House, replying: ScriptedService, data: bytes, status: int) -> None:
    client = await house.connect(await house.start(replying))
    client.send(data)
    response = await client.response()
    assert response.status == status
    assert response.error["message"]
    assert replying.requests == []


async def test_a_head_request_streams_nothing(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    client.send(get("/v1/responses/resp_1?stream=true", method="HEAD"))
    response = await client.response(to_head=True)
    assert (response.status, "content-length" in response.headers) == (200, True)
    assert not replying.requests[0].query.stream


async def test_a_stored_answer_asks_for_the_key(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying, api_keys=("secret",)))
    client.send(get("/v1/responses/resp_1"))
    assert (await client.response()).status == 401
    await asyncio.sleep(0)
    assert replying.requests == []
