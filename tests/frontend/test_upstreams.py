"""The whole way to members by URL and back: what a client sees of an upstream that misbehaves."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from router.config import Config, Member, Routing
from router.pipeline.router import Router
from tests.frontend.conftest import Client, House, Response, chat, post
from tests.pipeline.conftest import FakeScoring
from tests.pool.raw_upstream import DONE, STREAM, WHOLE, RawUpstream, answer, chunked, data, event, member_of, read_body

Pool = tuple[RawUpstream, RawUpstream, Client]


@pytest.fixture
async def pool(house: House) -> AsyncIterator[Pool]:
    """The upstream that is asked first, the other, and a client of the house before them."""
    upstreams = (RawUpstream(), RawUpstream())
    members = []
    for name, upstream in zip(("best", "other"), upstreams, strict=True):
        await upstream.start()
        upstream.answers = [answer(WHOLE | {"id": name})]
        members.append(member_of(upstream, name=name))
        await members[-1].start()
    settings = Config(pool=tuple(Member(name=member.name, model="m") for member in members), routing=Routing(price=0.0))
    router = Router(settings, pool=members, scoring=FakeScoring(0.9, 0.5))  # type: ignore[arg-type]
    frontend = await house.start(router)  # type: ignore[arg-type]
    yield *upstreams, await house.connect(frontend)
    for member in members:
        await member.stop()
    for upstream in upstreams:
        await upstream.stop()


async def said(client: Client, request: bytes) -> Response:
    client.send(request)
    return await client.response()


NO_ANSWERS = [
    answer(b"<html>log in</html>", kind="text/html"),
    answer(b""),
    b"HTTP/1.1 204 No Content\r\ncontent-length: 0\r\n\r\n",
    answer(json.dumps(WHOLE).encode()[:60]),
    answer({"error": {"message": "boom"}}),
    answer({"error": {"message": "no key"}}, 401),
    answer({"error": {"message": "no money"}}, 402),
    answer({"detail": "no"}, 403),
    answer({"detail": "Not Found"}, 404),
    answer(b"", 307, more="location: http://127.0.0.1:9/\r\n"),
    answer(b"", 600),
    b"",
]


@pytest.mark.parametrize("wrong", NO_ANSWERS)
async def test_the_other_member_answers_in_place_of_one_that_has_none(pool: Pool, wrong: bytes) -> None:
    best, _, client = pool
    best.answers = [wrong]
    reply = await said(client, chat())
    assert (reply.status, json.loads(reply.body)["id"]) == (200, "other")
    assert reply.headers["x-headgate-reason"] == "retry"


@pytest.mark.parametrize("wrong", [*NO_ANSWERS, answer(WHOLE), chunked(DONE), chunked(data({"error": "boom"}))])
async def test_the_other_member_streams_in_place_of_one_that_does_not(pool: Pool, wrong: bytes) -> None:
    best, other, client = pool
    best.answers, other.answers = [wrong], [chunked(STREAM)]
    reply = await said(client, chat(stream=True))
    assert reply.status == 200
    assert reply.body == STREAM.replace(b'"model": "up"', b'"model":"other"')


@pytest.mark.parametrize("wrong", [one for one in NO_ANSWERS if b"boom" not in one])
@pytest.mark.parametrize("stream", [False, True])
async def test_a_member_asked_for_by_name_that_has_no_answer_is_a_502(pool: Pool, stream: bool, wrong: bytes) -> None:
    best, _, client = pool
    best.answers = [wrong]
    reply = await said(client, chat(model="best", stream=stream))
    assert reply.status == 502
    assert reply.headers["content-type"] == "application/json"
    assert str(reply.error["message"]).startswith("model 'best' failed: ")
    assert "www-authenticate" not in reply.headers


async def test_a_bad_request_stays_the_clients_and_goes_to_no_other(pool: Pool) -> None:
    best, other, client = pool
    best.answers = [answer({"error": {"message": "bad tool", "type": "invalid_request_error"}}, 400)]
    reply = await said(client, chat())
    assert (reply.status, reply.error["message"]) == (400, "bad tool")
    assert len(other.heads) == 1  # its models


ENDS: list[tuple[str, dict[str, Any], list[bytes]]] = [
    ("/v1/chat/completions", {}, [b'data: {"error":', DONE]),
    ("/v1/messages", {"max_tokens": 4}, [b"event: error\ndata: {"]),
]


@pytest.mark.parametrize(("path", "fields", "ends"), ENDS)
async def test_an_error_in_mid_stream_comes_once_in_the_shape_of_the_route(
    pool: Pool, path: str, fields: dict[str, Any], ends: list[bytes]
) -> None:
    best, _, client = pool
    first = event("1") if "chat" in path else b"event: message_start\n" + data({"type": "message_start", "message": {}})
    best.answers = [chunked(first + data({"error": {"message": "boom", "code": 500}}) + DONE)]
    body = {"model": "best", "stream": True, "messages": [{"role": "user", "content": "hi"}], **fields}
    reply = await said(client, post(path, body))
    assert reply.status == 200
    assert reply.body.count(b"boom") == 1
    for end in ends:
        assert reply.body.count(end) == 1


async def test_over_broken_and_sound_connections_every_request_gets_its_own_answer(pool: Pool) -> None:
    best, other, client = pool
    other.answers = [answer(WHOLE | {"id": "other"})]

    async def mixed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        name = json.loads(await read_body(best.heads[-1], reader))["messages"][0]["content"]
        own = answer(WHOLE | {"id": name})
        writer.write((own, own + own, own[:50], b"", own, b"junk\r\n\r\n", own)[int(name) % 7])
        await writer.drain()
        return int(name) % 7 in (0, 1, 4)

    best.answers = [mixed]
    for number in range(70):
        reply = await said(client, chat(messages=[{"role": "user", "content": str(number)}]))
        assert reply.status == 200
        assert json.loads(reply.body)["id"] in (str(number), "other")
