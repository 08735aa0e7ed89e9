"""Connections to upstreams: what one request leaves behind never reaches another; nothing is read without a bound."""

import asyncio
import gzip
import json
import resource
import time
from typing import Any

import pytest

from router.errors import EngineStartError
from router.ipc.messages import Done
from router.pool.base import Failure
from tests.pool.conftest import Asked, Heard
from tests.pool.raw_upstream import (
    DONE,
    MODELS,
    STREAM,
    WHOLE,
    RawUpstream,
    answer,
    chunked,
    event,
    member_of,
    read_body,
    work,
)

EVIL = answer(WHOLE | {"id": "evil"})


def told(passed: bytes) -> str:
    return str(json.loads(passed)["id"])


async def test_bytes_that_no_request_asked_for_are_not_the_next_answer(asked: Asked) -> None:
    go, sent = asyncio.Event(), asyncio.Event()

    async def poison(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await read_body(asked.raw.heads[-1], reader)
        writer.write(answer(WHOLE | {"id": "right"}))
        await writer.drain()
        await go.wait()
        writer.write(EVIL)
        await writer.drain()
        sent.set()
        return True

    asked.raw.answers = [poison, answer(WHOLE | {"id": "next"})]
    passed, _ = await asked()
    assert told(passed) == "right"
    go.set()
    await sent.wait()
    await asyncio.sleep(0.1)  # the bytes are in the idle connection's socket; the loop has yet to read them
    passed, end = await asked()
    assert isinstance(end, Done)
    assert told(passed) == "next"


async def test_two_answers_to_one_request_do_not_answer_the_next(asked: Asked) -> None:
    asked.raw.answers = [answer(WHOLE | {"id": "right"}) + EVIL, answer(WHOLE | {"id": "next"})]
    assert [told((await asked())[0]) for _ in range(2)] == ["right", "next"]


@pytest.mark.parametrize(
    "first",
    [
        answer(b"no JSON", kind="text/plain"),
        answer({"detail": "x" * 3_000_000}, 500),
        chunked(b"data: <html>\n\n" + event("1") * 1000, DONE),
        chunked(STREAM + event("rest") * 10_000),
    ],
    ids=["no answer", "long error", "broken stream", "much after the end mark"],
)
async def test_after_a_broken_answer_the_next_request_gets_its_own(asked: Asked, first: bytes) -> None:
    asked.raw.answers = [first, answer(WHOLE | {"id": "next"})]
    await asked(stream=first.startswith(b"HTTP/1.1 200 X\r\ncontent-type: text/event-stream"))
    passed, end = await asked()
    assert isinstance(end, Done)
    assert told(passed) == "next"


async def test_an_answer_before_the_body_was_read_ends_the_request_and_its_connection(asked: Asked) -> None:
    async def hasty(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(answer({"error": {"message": "too large"}}, 413))
        await writer.drain()
        await asyncio.Event().wait()  # and never reads
        return False

    asked.raw.answers = [hasty, answer(WHOLE)]
    receiver = Heard()
    large = json.dumps({"messages": [], "x": "a" * 30_000_000}).encode()
    asked.member.submit(work_with(large), receiver)
    call = asked.member.calls[receiver]
    failure = await receiver.end()
    assert isinstance(failure, Failure)
    assert failure.error.status == 413
    assert call.task is not None
    async with asyncio.timeout(60):
        await call.task
    _, end = await asked()
    assert isinstance(end, Done)
    assert asked.raw.connections >= 2


def work_with(body: bytes) -> Any:
    from router.pool.base import Work

    return Work(kind="chat", body=body)


async def test_an_end_mark_ends_the_answer_though_the_body_goes_on(asked: Asked) -> None:
    async def open_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await read_body(asked.raw.heads[-1], reader)
        writer.write(chunked(STREAM, end=b""))
        await writer.drain()
        await asyncio.Event().wait()
        return False

    begun = time.monotonic()
    passed, end = await asked(open_end, stream=True)
    assert isinstance(end, Done)
    assert passed.endswith(DONE)
    assert time.monotonic() - begun < 300  # not the 600 s of `silence_timeout_s`
    await asked.member.stop()
    assert asked.member.status().in_flight == 0


async def test_cookies_are_not_kept(asked: Asked) -> None:
    await asked(answer(WHOLE, more="set-cookie: session=of-one-client\r\n"))
    await asked(answer(WHOLE))
    assert not any(b"of-one-client" in head for head in asked.raw.heads)


async def test_proxies_of_the_environment_are_not_used(raw: RawUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    member = member_of(raw)
    await member.start()
    assert member.phase == "ready"
    await member.stop()


async def test_compressed_answers_are_not_asked_for_but_understood(asked: Asked) -> None:
    said = answer(gzip.compress(json.dumps(WHOLE).encode()), more="content-encoding: gzip\r\n")
    _, end = await asked(said)
    assert isinstance(end, Done)
    assert b"accept-encoding: identity\r\n" in asked.raw.heads[-1].lower()


async def test_an_answer_that_unpacks_to_much_is_refused_and_takes_no_memory(asked: Asked) -> None:
    bomb = gzip.compress(b'{"choices": "' + bytes(256 * 1024 * 1024) + b'"}', 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for status in (200, 500):
        _, end = await asked(answer(bomb, status, more="content-encoding: gzip\r\n"))
        assert isinstance(end, Failure)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024  # KiB


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"x-%d: y\r\n" % i for i in range(100_000)) + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * 10_000_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\nhello",
        b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
        b"",
    ],
    ids=["many fields", "a long field", "two lengths", "no length", "another protocol", "nothing"],
)
async def test_a_head_that_is_no_head_is_the_members_fault(asked: Asked, head: bytes) -> None:
    _, end = await asked(head)
    assert isinstance(end, Failure)
    assert (end.error.status, end.retryable) == (502, True)
    assert len(end.error.message) < 1_200


# Time


async def stalls(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    await asyncio.Event().wait()
    return False


@pytest.mark.parametrize(("stream", "setting"), [(False, "answer_timeout_s"), (True, "silence_timeout_s")])
async def test_how_long_an_answer_may_take_is_a_setting(raw: RawUpstream, stream: bool, setting: str) -> None:
    raw.answers = [stalls]
    member = member_of(raw, **{setting: 0.2})
    await member.start()
    receiver = Heard()
    member.submit(work(stream=stream), receiver)
    failure = await receiver.end()
    assert isinstance(failure, Failure)
    assert failure.error.message == f"model 'ours' failed: it did not answer in time (`{setting}`: 0.2 s)"
    assert failure.retryable
    await member.stop()


async def test_silence_alone_does_not_end_a_whole_answer(raw: RawUpstream) -> None:
    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await asyncio.sleep(0.5)
        writer.write(answer(WHOLE))
        await writer.drain()
        return False

    raw.answers = [slow]
    member = member_of(raw, silence_timeout_s=0.1)
    await member.start()
    receiver = Heard()
    member.submit(work(), receiver)
    assert isinstance(await receiver.end(), Done)
    await member.stop()


async def _given_up(raw: RawUpstream) -> None:
    """A stream of `raw` fails once it has brought no event for so long."""
    member = member_of(raw, silence_timeout_s=0.5)
    await member.start()
    receiver = Heard()
    member.submit(work(stream=True), receiver)
    failure = await receiver.end()
    assert isinstance(failure, Failure)
    assert "did not answer in time (`silence_timeout_s`: 0.5 s)" in failure.error.message
    await member.stop()


async def test_a_stream_that_drips_bytes_and_no_event_is_given_up(raw: RawUpstream) -> None:
    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(chunked(event("1"), end=b""))
        while True:
            writer.write(b"1\r\nx\r\n")
            await writer.drain()
            await asyncio.sleep(0.02)

    raw.answers = [drips]
    await _given_up(raw)


@pytest.mark.parametrize("sent", [b"HTTP/1.1 200 OK\r\nx: ", chunked(end=b"")], ids=["its head", "white space"])
async def test_a_stream_whose_first_byte_drips_in_is_given_up(raw: RawUpstream, sent: bytes) -> None:
    async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(sent)
        while True:
            writer.write(b"1\r\n\n\r\n" if b"chunked" in sent else b"y")
            await writer.drain()
            await asyncio.sleep(0.02)

    raw.answers = [drips]
    await _given_up(raw)


async def test_a_clients_deadline_is_not_counted_against_the_member(asked: Asked) -> None:
    for _ in range(3):
        _, end = await asked(stalls, stream=True, deadline_s=0.05)
        assert isinstance(end, Failure)
        assert end.error.status == 504
    assert not asked.member.state().breaker_open


async def test_a_receiver_that_raises_ends_its_request_alone(asked: Asked, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Heard):
        def chunk(self, data: bytes) -> None:
            raise OverflowError("ours")

    asked.raw.answers = [answer(WHOLE)]
    for _ in range(3):
        receiver = Broken()
        asked.member.submit(work(), receiver)
        failure = await receiver.end()
        assert isinstance(failure, Failure)
    assert not asked.member.state().breaker_open
    assert asked.member.status().in_flight == 0
    caplog.clear()


# What it says of itself


async def test_a_list_of_models_in_many_packets_is_read_to_its_end(raw: RawUpstream) -> None:
    cards = [{"id": f"m{i}", "max_model_len": 100} for i in range(50_000)]
    raw.models = answer({"data": [*cards, {"id": "up", "max_model_len": 4096}]})
    member = member_of(raw)
    await member.start()
    assert member.state().context_tokens == 4096
    await member.stop()


@pytest.mark.parametrize("length", [2**63, 10**400, -1, 0, 3.5, "x", None, [], True])
async def test_a_context_length_out_of_range_is_none(raw: RawUpstream, length: object) -> None:
    raw.models = answer({"data": [{"id": "up", "max_model_len": length}]})
    member = member_of(raw)
    await member.start()
    assert (member.phase, member.state().context_tokens) == ("ready", 0)
    await member.stop()


@pytest.mark.parametrize("body", [b'{"data": ' + b"[" * 100_000, b"{}", b"", b"\xff", b'{"data": [{}]}', b"[1]"])
async def test_a_list_of_models_of_another_shape_is_an_answer_all_the_same(raw: RawUpstream, body: bytes) -> None:
    raw.models = answer(body)
    member = member_of(raw)
    await member.start()
    assert member.phase == "ready"
    await member.stop()


@pytest.mark.parametrize(
    ("models", "why"),
    [
        (answer(b"<html>log in</html>", kind="text/html"), "answers with a page, not with models"),
        (answer(b"", 302, more="location: http://127.0.0.1:9/\r\n"), "status 302, and redirects are not followed"),
        (answer({"detail": "no\nkey"}, 401), "no key"),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "does not answer: .*Bad status line"),
    ],
)
async def test_a_server_that_has_no_models_to_show_is_not_started(raw: RawUpstream, models: bytes, why: str) -> None:
    raw.models = models
    member = member_of(raw)
    with pytest.raises(EngineStartError, match=why):
        await member.start()
    await member.stop()


@pytest.mark.parametrize("name", ['a"b', "a\\b", "ü/モデル", "a b", "\x1f", "x" * 100_000, "{}", "\\u0000"])
async def test_odd_names_of_models_are_asked_for_as_they_are(raw: RawUpstream, name: str) -> None:
    raw.models = answer({"data": [{"id": name}]})
    bodies: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        bodies.append(await read_body(raw.heads[-1], reader))
        writer.write(answer(WHOLE | {"model": name}))
        await writer.drain()
        return True

    raw.answers = [note]
    member = member_of(raw, model="")
    await member.start()
    receiver = Heard()
    member.submit(work(), receiver)
    assert isinstance(await receiver.end(), Done)
    assert json.loads(bodies[0])["model"] == name
    assert json.loads(receiver.chunks[0])["model"] == "ours"
    await member.stop()


async def test_a_query_and_a_login_in_the_url_go_with_every_call(raw: RawUpstream) -> None:
    url = raw.url.replace("http://", "http://user:p%40w@") + "/?api-version=1"
    member = member_of(raw, url=url, api_key="")
    raw.answers = [answer(WHOLE)]
    await member.start()
    receiver = Heard()
    member.submit(work(), receiver)
    assert isinstance(await receiver.end(), Done)
    assert [head.split(b" ")[1] for head in raw.heads] == [
        b"/v1/models?api-version=1",
        b"/v1/chat/completions?api-version=1",
    ]
    assert all(b"authorization: basic dxnlcjpwqhc=\r\n" in head.lower() for head in raw.heads)
    assert member.status().engine_version == f"http://127.0.0.1:{raw.port}"
    assert raw.models == answer(MODELS)
    await member.stop()


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("nonsense", [b"zz\r\n", b"\x05\x00\x00\x00garbage"])
async def test_a_malformed_chunk_within_an_answer_ends_it_at_once(asked: Asked, stream: bool, nonsense: bytes) -> None:
    """And not only when the member gives up its silence, or the answer's time is over."""

    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        await read_body(asked.raw.heads[-1], reader)
        begun = event("1") if stream else b'{"id": "c",'
        writer.write(chunked(begun, end=b""))
        await writer.drain()
        await asyncio.sleep(0.1)  # in a read of its own
        writer.write(nonsense)
        await writer.drain()
        return False

    passed, end = await asked(break_off, stream=stream)
    assert passed.count(b"data: ") == stream
    assert isinstance(end, Failure)
    assert "the answer broke off: <HttpProcessingError: 400" in str(end.error)
    assert end.retryable
