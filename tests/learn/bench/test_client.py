"""The load client against a scripted server: whole answers, streams, cuts, lost connections."""

import asyncio

import pytest

from router.learn.bench import client
from tests.conftest import until

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-a: b\r\n\r\nok"
STREAM = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"
STREAM_END = b"3\r\ntwo\r\n0\r\n\r\n"


@pytest.fixture
async def go_on():
    """The rest of `/held` is sent once this is set."""
    return asyncio.Event()


@pytest.fixture
async def server(go_on):
    """Answers `/whole`, `/stream`, `/held`, `/drop` (closes midway) on one connection, one request after another."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                if b"/whole" in head:
                    writer.write(WHOLE)
                elif b"/stream" in head or b"/held" in head:
                    writer.write(STREAM)
                    await (go_on.wait() if b"/held" in head else asyncio.sleep(0.02))
                    writer.write(STREAM_END)
                else:
                    writer.write(STREAM)
                    return
        except (asyncio.IncompleteReadError, ConnectionError):
            return
        finally:
            writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"


async def test_answers_come_one_after_another_on_one_connection(server):
    connection = await client.connect(server)
    for _ in range(3):
        answer = await connection.ask(client.post("/whole", b"{}"))
        assert (answer.status, answer.body, answer.headers["x-a"], answer.complete) == (200, b"ok", "b", True)
    connection.close()


async def test_a_stream_tells_its_first_piece_and_its_gaps(server, go_on):
    connection = await client.connect(server)
    asking = asyncio.ensure_future(connection.ask(client.post("/held", b"{}")))
    await until(lambda: connection.answer.parts)
    await asyncio.sleep(0.02)
    go_on.set()
    answer = await asking
    assert answer.parts == [b"one", b"two"]
    assert 0 < answer.ttft_s < answer.total_s
    assert answer.gaps_s()[0] > 0.01
    connection.close()


async def test_a_cut_drops_the_connection_at_once(server):
    connection = await client.connect(server)
    answer = await connection.ask(client.post("/stream", b"{}"), cut_after=1)
    assert (answer.parts, answer.complete, connection.open) == ([b"one"], False, False)
    with pytest.raises(ConnectionError, match="the connection is closed"):
        await connection.ask(client.post("/whole", b"{}"))


async def test_an_answer_that_breaks_off_is_an_error(server):
    connection = await client.connect(server)
    with pytest.raises(ConnectionError, match="before the answer was complete"):
        await connection.ask(client.post("/drop", b"{}"))


async def test_a_closed_loop_asks_as_often_as_told(server):
    requests = [client.post("/whole", b"{}"), client.post("/stream", b"{}")]
    numbers: list[int] = []
    answers, wall_s = await client.closed_loop(server, requests, streams=4, count=10)
    assert sorted(answer.body for answer in answers) == [b"ok"] * 5 + [b"onetwo"] * 5
    assert wall_s > 0
    options = {"count": 6, "keep": lambda number, _: numbers.append(number)}
    assert (await client.closed_loop(server, requests, streams=2, **options))[0] == []
    assert sorted(numbers) == list(range(6))


async def test_a_closed_loop_ends_when_time_is_up(server):
    answers, wall_s = await client.closed_loop(server, [client.post("/whole", b"{}")], streams=2, seconds=0.2)
    assert len(answers) >= 2
    assert 0.2 <= wall_s < 60
