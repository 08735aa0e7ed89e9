"""Clients of one storm: each tells how each of its requests ended, as it saw it."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

from router import Router
from router.errors import RouterError
from tests.conftest import patience
from tests.frontend.conftest import Client
from tests.storm.plan import Ask, Visit

#: How a request ended for its client. `error`: an answer that is one; `error event`: in a stream; `left`: the client
#: went away; `closed`: the server did; `unsent`: it had closed before.
How = Literal["answer", "error", "error event", "left", "closed", "unsent"]

_BROKEN = (ConnectionError, asyncio.IncompleteReadError)


@dataclass
class Seen:
    """One request's end. `status`: of the answer's head; 0 before it was read."""

    ask: Ask
    how: How
    status: int = 0
    error: str = ""  #: the type of an error
    decision_id: str = ""
    model: str = ""
    running: int = -1  #: of an answer to `Planner.count`


Ended = Callable[[int], Awaitable[None]]


async def call_on(port: int, visit: Visit, begun: Callable[[], None], ended: Ended) -> list[Seen]:
    """The ends of the requests of one connection, in order. `begun` is called before each; `ended` waits until the
    server has ended a request of that number."""
    try:
        client = await _connect(port, slow=any(ask.slow for ask in visit.asks))
    except OSError:  # the door is shut
        return [Seen(ask, "unsent") for ask in visit.asks]
    try:
        return await _converse(client, visit, begun, ended)
    finally:
        await client.close()


async def _connect(port: int, *, slow: bool) -> Client:
    made = socket.socket()
    if slow:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    made.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(made, ("127.0.0.1", port))
        return Client(*await asyncio.open_connection(sock=made, limit=1 << 16))
    except BaseException:
        made.close()
        raise


async def _converse(client: Client, visit: Visit, begun: Callable[[], None], ended: Ended) -> list[Seen]:
    seen: list[Seen] = []
    open = True
    if visit.pipelined:
        client.send(b"".join(_bytes_of(ask) for ask in visit.asks))
    for ask in visit.asks:
        begun()
        if not open:
            seen.append(Seen(ask, "closed" if visit.pipelined else "unsent"))
            continue
        if not visit.pipelined:
            client.send(_bytes_of(ask))
        told = Seen(ask, "closed")
        seen.append(told)
        try:
            open = await _end_of(client, told, ended)
        except _BROKEN:
            open = False
        except Exception as error:
            error.add_note(f"of {told}")
            raise
    return seen


def _bytes_of(ask: Ask) -> bytes:
    """What is sent: all, or as much as its client sends before it leaves."""
    data = ask.request()
    head = data.index(b"\r\n\r\n") + 4
    if ask.leave == "head":
        return data[: head // 2]
    return data[: (head + len(data)) // 2] if ask.leave == "body" else data


async def _end_of(client: Client, told: Seen, ended: Ended) -> bool:
    """Fill in how it ended; whether the connection may take another request."""
    ask = told.ask
    if ask.leave in ("head", "body", "waiting", "half") and not ask.refused:
        await asyncio.sleep(ask.after_s)
        return await _leave(client, told)
    elif ask.leave == "answer":
        try:
            async with asyncio.timeout(ask.after_s + 0.3):
                kept = await _answer(client, told, ended, first=True)
        except TimeoutError:
            return await _leave(client, told)
        return kept if told.how != "closed" else await _leave(client, told)
    return await _answer(client, told, ended)


async def _leave(client: Client, told: Seen) -> bool:
    told.how = "left"
    if told.ask.leave == "half":
        with contextlib.suppress(OSError, RuntimeError):  # the server has closed
            client.writer.write_eof()
        await client.rest()
    elif told.ask.reset:
        made = client.writer.get_extra_info("socket")  # None once the server has closed
        with contextlib.suppress(OSError, AttributeError):
            made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        client.writer.transport.abort()
    return False


async def _answer(client: Client, told: Seen, ended: Ended, *, first: bool = False) -> bool:
    """Read the answer, or its `first` bytes."""
    told.status, headers = await client.head()
    told.decision_id = headers.get("x-headgate-decision-id", "")
    told.model = headers.get("x-headgate-model", "")
    kept = headers.get("connection", "").lower() != "close"
    if headers.get("transfer-encoding") != "chunked":
        async with patience():
            body = await client.reader.readexactly(int(headers["content-length"]))
        _whole(told, json.loads(body))
        return kept
    if told.ask.slow:
        await ended(told.ask.number)
    text = await client.chunk()
    if first:
        return kept
    while data := await client.chunk():
        text += data
    _streamed(told, text.decode())
    return kept


def _whole(told: Seen, body: dict[str, Any]) -> None:
    if told.status == 200:
        assert body["of"] == told.ask.number, f"another's answer: {body} to {told}"
        told.how, told.running = "answer", body.get("running", -1)
    else:
        told.how, told.error = "error", body["error"].get("type", "")


def _streamed(told: Seen, text: str) -> None:
    ask = told.ask
    assert told.status == 200, told
    lines = [json.loads(line[6:]) for line in text.split("\n") if line.startswith("data: {")]
    events = [line for line in lines if "of" in line]
    errors = [line for line in lines if "error" in line]
    assert [(each["of"], each["n"]) for each in events] == [(ask.number, n + 1) for n in range(len(events))], text
    assert errors == lines[len(lines) - len(errors) :], f"an event after the error event: {text}"
    assert len(errors) <= 1, text
    if ask.kind != "messages":
        assert text.endswith("data: [DONE]\n\n"), text
        # An engine that fails after its end mark is the one case where two are sent.
        assert text.count("[DONE]") == 1 or (errors and ask.whole_at_first and text.count("[DONE]") == 2), text
    told.how = "error event" if errors else "answer"
    if errors:
        told.error = errors[0]["error"].get("type", "")
    else:
        assert len(events) == ask.events, f"{len(events)} events of {ask.events}, and no error: {text}"


async def call_library(router: Router, ask: Ask) -> Seen:
    """As a program that embeds the router."""
    told = Seen(ask, "closed")
    asking = asyncio.create_task(_library_stream(router, told) if ask.stream else _library_whole(router, told))
    if ask.leave:
        await asyncio.wait((asking,), timeout=ask.after_s + (0.3 if ask.leave == "answer" else 0.0))
        asking.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        async with patience():
            await asking
    if asking.cancelled():
        told.how = "left"
    return told


async def _library_whole(router: Router, told: Seen) -> None:
    fields = told.ask.fields()
    try:
        answer = await router.complete(
            fields.pop("messages"), model=told.ask.model, deadline_s=told.ask.deadline_s, **fields
        )
    except RouterError as error:
        told.how, told.error, told.status = "error", error.type, error.status
    else:
        _library_decided(told, answer.decision)
        told.status = 200
        _whole(told, json.loads(answer.raw))


async def _library_stream(router: Router, told: Seen) -> None:
    ask, fields, events = told.ask, told.ask.fields(), 0
    try:
        asked = router.chat(fields.pop("messages"), model=ask.model, deadline_s=ask.deadline_s, **fields)
        async with asked as stream:
            async for chunk in stream:
                line = json.loads(chunk.raw)
                events += 1
                assert (line["of"], line["n"]) == (ask.number, events), line
                _library_decided(told, stream.decision)
                if ask.leave == "answer":
                    told.how = "left"
                    return
    except RouterError as error:
        told.how, told.error, told.status = "error event" if events else "error", error.type, error.status
    else:
        told.how, told.status = "answer", 200
        assert events == ask.events, f"{events} events of {ask.events}, and no error"


def _library_decided(told: Seen, decision: Any) -> None:
    told.decision_id, told.model = decision.id, decision.model
