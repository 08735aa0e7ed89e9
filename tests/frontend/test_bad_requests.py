"""What a broken or hostile client gets: an answer that names the fault, and no more than its share of memory."""

import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from router.errors import ModelNotFound, Overloaded, UpstreamError
from tests.frontend.conftest import Ask, House, ScriptedService, chat, get, post

Until = Callable[[Callable[[], bool]], Awaitable[None]]
BODY = b'{"messages":[{"role":"user","content":"hi"}]}'


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        (b'{"messages":[{"role":"user","content":"hi"}', None, "not valid JSON: Input data was truncated (byte 43)"),
        (b'{"messages": what}', None, "not valid JSON: invalid character (byte 13)"),
        (b"", None, "not valid JSON: the body is empty"),
        (b"[]", None, "the body: expected `object`, got `array`"),
        (b"{}", "messages", "`messages` is missing"),
        (b'{"messages":[]}', "messages", "`messages` is empty"),
        (b'{"messages":"hi"}', "messages", "`messages`: expected `array`, got `str`"),
        (b'{"messages":[{"role":3}]}', "messages[0].role", "`messages[0].role`: expected `str`, got `int`"),
        (b'{"messages":[{"content":"x"}]}', "messages[0].role", "`messages[0].role` is missing"),
        (b'{"messages":[{"role":"u","content":[1]}]}', "messages[0].content[0]", "got `int`"),
        (b'{"messages":[{"role":"u"}],"stream":3}', "stream", "`stream`: expected `bool | null`, got `int`"),
        (b'{"messages":[{"role":"u"}],"max_tokens":-1}', "max_tokens", "expected 1 to 2147483647, got -1"),
        (b'{"messages":[{"role":"u"}],"max_completion_tokens":0}', "max_completion_tokens", "got 0"),
        (b'{"messages":[{"role":"u"}],"max_tokens":1%b}' % (b"0" * 40), "max_tokens", "more than 18 digits"),
        (b'{"messages":[{"role":"u"}],"max_tokens":1%b}' % (b"0" * 5000), "max_tokens", "out of range"),
        (b'{"messages":[{"role":"u"}],"n":0}', "n", "`n`: expected 1 to 1024, got 0"),
        (b'{"messages":[{"role":"u","content":"\xff"}]}', None, "not valid UTF-8"),
        (b'{"messages":[{"role":"u","content":"\\ud800"}]}', None, r"half of a surrogate pair, \ud800, stands alone"),
        (b'{"messages":[{"role":"u"}],"metadata":{"title":"\\ud83d"}}', None, "stands alone (byte 48)"),
        ('{"messages":[{"role":"u"}]}'.encode("utf-16"), None, "not valid UTF-8: UTF-16"),
        (b'{"x":%b%b}' % (b"[" * 100_000, b"]" * 100_000), None, "nested too deeply"),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_bad_bodies(ask: Ask, body: bytes, param: str | None, message: str) -> None:
    response = await ask(post("/v1/chat/completions", body))
    assert response.status == 400
    assert message in str(response.error["message"])
    assert response.error["type"] == "invalid_request_error"
    assert response.error["param"] == param
    assert set(response.error) == {"message", "type", "param", "code"}


async def test_a_refused_body_keeps_the_connection(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    client.send(post("/v1/chat/completions", b"{") + chat())
    assert (await client.response()).status == 400
    assert (await client.response()).status == 200


async def test_what_the_service_refuses_with(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    service.refusal = ModelNotFound("no model 'x'; there are auto, small", param="model")
    client.send(chat(model="x"))
    response = await client.response()
    assert response.status == 404
    assert response.error == {
        "message": "no model 'x'; there are auto, small",
        "type": "not_found_error",
        "param": "model",
        "code": "model_not_found",
    }
    service.refusal = Overloaded("too many", retry_after_s=2.3)
    client.send(chat())
    response = await client.response()
    assert (response.status, response.headers["retry-after"]) == (429, "3")
    service.refusal = UpstreamError(422, b'{"error":{"message":"engine says no"}}', "engine says no")
    client.send(chat())
    response = await client.response()
    assert (response.status, response.body) == (422, b'{"error":{"message":"engine says no"}}')


async def test_a_bug_is_a_500_and_logged(
    house: House, service: ScriptedService, caplog: pytest.LogCaptureFixture
) -> None:
    service.refusal = ZeroDivisionError("boom")  # type: ignore[assignment]
    client = await house.connect(await house.start(service))
    client.send(chat() + get("/health"))
    response = await client.response()
    assert response.status == 500
    assert "boom" not in response.body.decode()
    assert "ZeroDivisionError: boom" in caplog.text
    assert (await client.response()).status == 200


@pytest.mark.parametrize(
    ("target", "hint"),
    [
        ("/v1/chat/completion", "did you mean /v1/chat/completions?"),
        ("/chat/completions", "did you mean /v1/chat/completions?"),
        ("/v1/images", "no route /v1/images; "),
        ("/v1/assistants", "no route /v1/assistants"),
        ("/" + "a" * 60_000, "there are /v1/chat/completions"),
        ("/api/v1/messages", "did you mean /v1/messages?"),
        ("/v1/chat/competions", "did you mean /v1/chat/completions?"),
        ("/V1/Messages", "did you mean /v1/messages?"),
        ("/v1/model", "did you mean /v1/models?"),
        ("/", "there are /v1/chat/completions"),
    ],
)
async def test_unknown_route(ask: Ask, target: str, hint: str) -> None:
    response = await ask(post(target, b"{}"))
    assert response.status == 404
    assert hint in str(response.error["message"])
    assert response.error["code"] == "unknown_route"
    assert len(response.body) < 600


async def test_wrong_method(ask: Ask) -> None:
    response = await ask(get("/v1/chat/completions"))
    assert response.status == 405
    assert response.headers["allow"] == "OPTIONS, POST"
    assert "does not take GET" in str(response.error["message"])
    assert (await ask(get("/health", method="DELETE"))).headers["allow"] == "GET, HEAD, OPTIONS"
    assert (await ask(b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n")).status == 404


@pytest.mark.parametrize("how", ["content-length", "chunked", "chunked in one piece"])
async def test_a_body_over_the_limit(house: House, replying: ScriptedService, how: str) -> None:
    client = await house.connect(await house.start(replying, body_bytes=1000))
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Type: application/json\r\n"
    if how == "content-length":
        client.send(head + b"Content-Length: 1001\r\n\r\n" + b"x" * 1001)
    elif how == "chunked":
        client.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"64\r\n%b\r\n" % (b"x" * 100) * 11)
    else:
        client.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"3e9\r\n%b\r\n0\r\n\r\n" % (b"x" * 1001))
    response = await client.response()
    assert response.status == 413
    assert "over 1000 bytes" in str(response.error["message"])
    assert replying.requests == []


async def test_a_huge_body_is_refused_before_it_is_sent(house: House, replying: ScriptedService) -> None:
    """The answer survives although the client goes on sending: the connection lingers."""
    client = await house.connect(await house.start(replying))
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\nContent-Length: 99999999999\r\n\r\n")
    for _ in range(50):
        client.send(b"x" * 100_000)
    response = await client.response()
    assert response.status == 413
    assert response.headers["connection"] == "close"


async def test_all_bodies_together_are_bounded(house: House, service: ScriptedService, until: Until) -> None:
    frontend = await house.start(service, pending_bytes=10_000)
    half, other, waiting = [await house.connect(frontend) for _ in range(3)]
    unfinished = chat(user="x" * 6000)[:-1]
    half.send(unfinished)
    await until(lambda: frontend._public.body_bytes > 6000)
    other.send(unfinished)
    response = await other.response()
    assert response.status == 429
    assert "share of memory" in str(response.error["message"])
    half.send(b"}")
    await service.asked(1)
    assert frontend._public.body_bytes == 0
    waiting.send(chat() + chat(user="x" * 6000) * 2)
    await service.asked(2)
    await until(lambda: frontend._public.body_bytes > 6000)
    await waiting.close()
    await until(lambda: frontend._public.body_bytes == 0)


async def test_one_byte_chunks_do_not_multiply_memory(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying))
    count = 200_000
    padding = b"1\r\n \r\n" * count
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    client.send(head + padding + b"%x\r\n%b\r\n0\r\n\r\n" % (len(BODY), BODY))
    assert (await client.response()).status == 200
    assert replying.requests[0].body == b" " * count + BODY


@pytest.mark.parametrize(
    "head",
    [
        b"X-A: " + b"a" * 70_000 + b"\r\n\r\n",
        b"X-A: " + b"a" * 70_000,  # unfinished
        b"".join(b"X-%d: %b\r\n" % (i, b"a" * 1000) for i in range(70)) + b"\r\n",
        b"".join(b"X-%d: a\r\n" % i for i in range(129)) + b"\r\n",
    ],
    ids=["one line", "unfinished line", "many bytes", "many lines"],
)
async def test_headers_over_the_limit(house: House, replying: ScriptedService, head: bytes) -> None:
    client = await house.connect(await house.start(replying))
    client.send(b"GET /health HTTP/1.1\r\nHost: h\r\n")
    await asyncio.sleep(0.01)
    client.send(head)
    response = await client.response()
    assert response.status == 431
    assert response.error["code"] == "headers_too_large"
    assert await client.closed()


async def test_endless_target_trailers_and_chunk_extensions(house: House, replying: ScriptedService) -> None:
    frontend = await house.start(replying)
    chunked = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n"
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    for start in (b"GET /", chunked + b"1\r\nx\r\n0\r\nX: ", chunked + b"1\r\nx\r\n0\r\n", chunked + b"1;"):
        client = await house.connect(frontend)
        client.send(start)
        part = b"a: b\r\n" if start.endswith(b"0\r\n") else b"a"
        for _ in range(40):
            client.send(part * (4000 // len(part)))
            await asyncio.sleep(0.002)
        assert (await client.response()).status == 431


async def test_a_slow_dripping_head(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying, header_timeout_s=0.1))
    sent, dripping = 0, get("/health", "x-a: " + "a" * 1000)  # ten seconds of drops
    for byte in dripping:
        if client.reader._buffer:  # type: ignore[attr-defined]
            break
        client.send(bytes((byte,)))
        sent += 1
        await asyncio.sleep(0.01)
    response = await client.response()
    assert response.status == 408
    assert "head took too long" in str(response.error["message"])
    assert sent < len(dripping)
    assert await client.closed()


async def test_a_slow_dripping_body(house: House, replying: ScriptedService) -> None:
    client = await house.connect(await house.start(replying, body_timeout_s=0.1))
    for byte in chat():
        client.send(bytes((byte,)))
    await asyncio.sleep(0)
    client = await house.connect(house.frontends[0])
    client.send(chat()[:-2])
    response = await client.response()
    assert response.status == 408
    assert "body took too long" in str(response.error["message"])


async def test_the_clock_of_a_head_waits_for_the_answer_before(house: House, service: ScriptedService) -> None:
    house.clock.stop()
    frontend = await house.start(service, header_timeout_s=0.1, keepalive_s=1.0)
    client, idle = await house.connect(frontend), await house.connect(frontend)
    client.send(chat() + b"GET /hea")
    request = await service.asked()
    house.clock.move(9.0)
    assert await idle.closed(), "whose time was up is gone"
    request.reply()
    assert (await client.response()).status == 200
    client.send(b"lth HTTP/1.1\r\nHost: h\r\n\r\n")
    assert (await client.response()).status == 200


async def test_an_idle_connection_is_closed(house: House, replying: ScriptedService) -> None:
    house.clock.stop()
    frontend = await house.start(replying, keepalive_s=0.1)
    fresh, used = await house.connect(frontend), await house.connect(frontend)
    used.send(chat())
    assert (await used.response()).status == 200
    house.clock.move(9.0)
    assert await fresh.closed()
    assert await used.closed()


SMUGGLING = {
    "CL and TE": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "TE and CL": b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "two CL": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nabcde",
    "two equal CL": b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nabcde",
    "CL list": b"Content-Length: 5, 5\r\n\r\nabcde",
    "negative CL": b"Content-Length: -5\r\n\r\nabcde",
    "signed CL": b"Content-Length: +5\r\n\r\nabcde",
    "hex CL": b"Content-Length: 0x5\r\n\r\nabcde",
    "empty CL": b"Content-Length: \r\n\r\nabcde",
    "huge CL": b"Content-Length: 99999999999999999999999\r\n\r\nabcde",
    "space before colon": b"Content-Length : 5\r\n\r\nabcde",
    "obs-fold": b"X-A: b\r\n c: d\r\nContent-Length: 5\r\n\r\nabcde",
    "TE other than chunked": b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "TE unknown": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "two TE": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "two TE of different case": b"Transfer-Encoding: chunked\r\ntransfer-encoding: identity\r\n\r\n0\r\n\r\n",
    "bad chunk size": b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "huge chunk size": b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n",
    "NUL in a value": b"X-A: a\0b\r\n\r\n",
    "bare CR in a value": b"X-A: a\rb\r\n\r\n",
    "bare LF": b"X-A: a\nb: c\r\n\r\n",
}


@pytest.mark.parametrize("rest", SMUGGLING.values(), ids=SMUGGLING.keys())
async def test_what_two_servers_could_read_differently(house: House, replying: ScriptedService, rest: bytes) -> None:
    client = await house.connect(await house.start(replying))
    client.send(b"POST /v1/chat/completions HTTP/1.1\r\nHost: h\r\n" + rest + get("/version"))
    response = await client.response()
    assert response.status == 400
    assert response.headers["connection"] == "close"
    assert await client.closed(), "what follows is never read as a request"
    assert replying.requests == []


@pytest.mark.parametrize(
    "data",
    [
        b"GET /health HTTP/1.1\r\n\r\n",  # no host
        b"GET /health HTTP/0.9\r\n\r\n",
        b"GET /health HTTP/2.0\r\nHost: h\r\n\r\n",
        b"GET /health HTTP/9.9\r\nHost: h\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
        b"NONSENSE /health HTTP/1.1\r\nHost: h\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # TLS
        b"POST /v1/chat/completions HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"\0" * 100,
    ],
    ids=lambda data: repr(data[:30]),
)
async def test_not_http_1(house: House, replying: ScriptedService, data: bytes) -> None:
    client = await house.connect(await house.start(replying))
    client.send(data)
    response = await client.response()
    assert response.status == 400
    assert response.error["type"] == "invalid_request_error"
    assert await client.closed()


async def test_a_fault_is_answered_after_the_answers_before(house: House, service: ScriptedService) -> None:
    client = await house.connect(await house.start(service))
    client.send(chat() + b"nonsense\r\n\r\n")
    request = await service.asked()
    await asyncio.sleep(0.01)
    request.reply()
    assert (await client.response()).status == 200
    assert (await client.response()).status == 400
    assert await client.closed()


async def test_compressed_bodies_are_refused(ask: Ask) -> None:
    response = await ask(chat("Content-Encoding: gzip"))
    assert response.status == 400
    assert response.error["param"] == "content-encoding"
    assert (await ask(chat("Content-Encoding: identity"))).status == 200


async def test_too_many_in_flight(house: House, service: ScriptedService) -> None:
    frontend = await house.start(service, in_flight=2)
    clients = [await house.connect(frontend) for _ in range(3)]
    for number, client in enumerate(clients, 1):
        client.send(chat())
        if number < 3:
            await service.asked(number)
    response = await clients[2].response()
    assert response.status == 429
    assert response.headers["retry-after"] == "1"
    service.requests[0].reply()
    assert (await clients[0].response()).status == 200
    clients[2].send(chat())
    (await service.asked(3)).reply()
    assert (await clients[2].response()).status == 200


async def test_too_many_connections(house: House, replying: ScriptedService, until: Until) -> None:
    frontend = await house.start(replying, connections=2)
    kept = [await house.connect(frontend) for _ in range(2)]
    for client in kept:
        client.send(get("/health"))
        assert (await client.response()).status == 200
    third = await house.connect(frontend)
    response = await third.response()
    assert (response.status, response.headers["retry-after"]) == (429, "1")
    assert await third.closed()
    await third.close()
    await kept[0].close()
    await until(lambda: frontend.connections == 1)
    fourth = await house.connect(frontend)
    fourth.send(get("/health"))
    assert (await fourth.response()).status == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [("/v1/messages", {"messages": []}), ("/v1/messages", {"messages": [{"role": "user"}], "max_tokens": 0})],
)
async def test_anthropic_errors(ask: Ask, path: str, body: dict[str, object]) -> None:
    response = await ask(post(path, body))
    assert response.status == 400
    answer = json.loads(response.body)
    assert answer["type"] == "error"
    assert answer["error"]["type"] == "invalid_request_error"
