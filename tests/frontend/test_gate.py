"""What a listener's clients see of the gate: when to come back, and what operators see."""

import math
from typing import Any

KEY, JSON = "Authorization: Bearer real", "Content-Type: application/json"


def chat(body: bytes, *headers: str) -> bytes:
    lines = "".join(f"{line}\r\n" for line in ("Host: h", JSON, f"Content-Length: {len(body)}", KEY, *headers))
    return f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n".encode() + body


BODY = b'{"messages":[{"role":"user","content":"hello"}]}'


async def test_a_refusal_says_in_seconds_and_in_milliseconds_when_to_come_back_and_later_ones_later(
    house: Any, service: Any
) -> None:
    frontend = await house.start(service, in_flight=1, queue_requests=0, api_keys=("real",))
    first, client = await house.connect(frontend), await house.connect(frontend)
    first.send(chat(BODY))
    await service.asked()
    told = []
    for number in range(3):
        client.send(chat(BODY.replace(b"hello", b"hello %d" % number)))
        response = await client.response()
        assert (response.status, response.error["code"]) == (429, "overloaded")
        seconds, milliseconds = (int(response.headers[name]) for name in ("retry-after", "retry-after-ms"))
        assert seconds == max(1, math.ceil(milliseconds / 1e3))
        told.append(milliseconds)
    assert told == sorted(set(told))


async def test_refusals_are_counted_by_reason(house: Any, service: Any) -> None:
    frontend = await house.start(service, in_flight=1, queue_requests=0, api_keys=("real",))
    first, client = await house.connect(frontend), await house.connect(frontend)
    first.send(chat(BODY))
    await service.asked()
    for data in (chat(BODY), chat(BODY, "X-Other: y"), chat(BODY).replace(b"real", b"fake")):
        client.send(data)
        await client.response()
    page = frontend.metrics.render().decode()
    assert 'headgate_refusals_total{reason="in_flight"} 2.0' in page
    assert 'headgate_refusals_total{reason="key"} 1.0' in page
    assert "headgate_queue_length 0.0" in page


async def test_a_body_that_is_refused_gives_its_slot_back(house: Any, service: Any) -> None:
    client = await house.connect(await house.start(service, in_flight=1, queue_requests=0, api_keys=("real",)))
    for _ in range(3):
        client.send(chat(b"{"))
        assert (await client.response()).status == 400
    client.send(chat(BODY))
    (await service.asked()).reply()
    assert (await client.response()).status == 200
