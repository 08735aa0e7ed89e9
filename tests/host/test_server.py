"""The host's side of the wire, over a real socket and a scripted engine."""

import asyncio
import os
import socket
import time

import msgspec
import pytest

from router.host.base import engine_failed
from router.host.server import remove_socket
from router.ipc.messages import Chunks, Control, Done, Fail, Hello, Load
from router.types import Usage


async def test_a_frontend_is_greeted_with_facts_and_load(host):
    frontend = await host.join()
    hello = frontend.hello()
    assert (hello.role, hello.model, hello.context_tokens, hello.kv_tokens) == ("host", "tiny", 512, 4096)
    assert hello.capabilities == ("chat", "completions")
    assert hello.engine_version == "fake 1"
    assert hello.pid > 0
    assert isinstance(frontend.frames[1], Load)


async def test_ping_is_answered_with_its_argument(host, wait_until):
    frontend = await host.join()
    frontend.send(Control("ping", "7"))
    await wait_until(frontend.controls)
    assert frontend.controls() == [Control("pong", "7")]


async def test_chunks_of_one_tick_leave_in_one_frame_and_ends_follow(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"a")
    frontend.submit(2, b"b")
    await wait_until(lambda: len(host.engine.answers) == 2)
    a, b = host.engine.answers[b"a"], host.engine.answers[b"b"]
    a.chunk(b"a1")
    b.chunk(b"b1")
    a.chunk(b"a2")
    a.done(Usage(3, 2, 1), "length")
    await wait_until(lambda: frontend.of(Done))
    frames = frontend.frames[2:]
    assert frames[0] == Chunks([(1, b"a1"), (2, b"b1"), (1, b"a2")])
    done = frames[1]
    assert isinstance(done, Done)
    assert (done.id, done.usage, done.finish_reason) == (1, Usage(3, 2, 1), "length")
    assert 0 <= done.timings.first_token_s <= done.timings.total_s
    b.done(Usage(), "stop")
    await wait_until(lambda: len(frontend.of(Done)) == 2)


async def test_the_first_token_of_a_whole_answer_is_timed_when_it_is_there_and_not_when_the_answer_is(host, wait_until):
    frontend = await host.join()
    for id in (1, 2):
        frontend.submit(id, b"%d" % id)
    await wait_until(lambda: len(host.engine.answers) == 2)
    timed, untimed = host.engine.answers[b"1"], host.engine.answers[b"2"]
    timed.begun()
    await asyncio.sleep(0.05)
    for answer in (timed, untimed):
        answer.begun()
        answer.chunk(b"whole")
    untimed.untimed()
    for answer in (timed, untimed):
        answer.done(Usage(3, 2, 1), "stop")
    await wait_until(lambda: len(frontend.of(Done)) == 2)
    timings = {done.id: done.timings for done in frontend.of(Done)}
    assert 0 < timings[1].first_token_s <= timings[1].total_s - 0.04
    assert timings[2].first_token_s == 0


async def test_abort_stops_the_engine_and_says_nothing_more(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"a")
    await wait_until(lambda: host.engine.answers)
    frontend.abort(1)
    await wait_until(lambda: host.engine.stopped)
    answer = host.engine.answers[b"a"]
    answer.chunk(b"late")
    answer.done(Usage(), "stop")
    await asyncio.sleep(0.02)
    assert host.engine.stopped == [b"a"]
    assert frontend.frames[2:] == []


async def test_abort_of_an_unknown_request_is_harmless(host, wait_until):
    frontend = await host.join()
    frontend.abort(99)
    frontend.send(Control("ping"))
    await wait_until(frontend.controls)
    assert frontend.lost_error == []


async def test_a_lost_connection_aborts_its_requests_only(host, wait_until):
    first, second = await host.join("client"), await host.join("client")
    first.submit(1, b"a")
    first.submit(2, b"b")
    second.submit(1, b"c")
    await wait_until(lambda: len(host.engine.answers) == 3)
    first.channel.abort()
    await wait_until(lambda: len(host.engine.stopped) == 2)
    assert sorted(host.engine.stopped) == [b"a", b"b"]
    host.engine.answers[b"c"].chunk(b"c1")
    await wait_until(lambda: second.bytes_of(1) == b"c1")


async def test_a_generation_that_cannot_be_stopped_does_not_keep_the_others_running(host, wait_until):
    said = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: said.append(context["message"]))
    frontend = await host.join()
    start = host.engine.start

    def start_broken(submit, answer):
        stop = start(submit, answer)

        def broken():
            raise ValueError("a bug")

        return broken if submit.body == b"b" else stop

    host.engine.start = start_broken
    for id, body in enumerate((b"a", b"b", b"c")):
        frontend.submit(id, body)
    await wait_until(lambda: len(host.engine.answers) == 3)
    frontend.channel.abort()
    await wait_until(lambda: len(host.engine.stopped) == 2)
    assert sorted(host.engine.stopped) == [b"a", b"c"]
    assert said == ["a generation could not be stopped"]
    other = await host.join("client")
    other.submit(1, b"d")
    await wait_until(lambda: b"d" in host.engine.answers)


async def test_a_deadline_ends_the_answer_and_the_generation(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"a", deadline_s=0.02)
    await wait_until(frontend.ends)
    assert frontend.ends() == [(1, "504 deadline_exceeded")]
    assert host.engine.stopped == [b"a"]
    fail = frontend.of(Fail)[0]
    assert not fail.retryable
    assert "0.02 s" in msgspec.json.decode(fail.body)["error"]["message"]


async def test_an_answer_in_time_is_not_cut_later(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"a", deadline_s=1.5)
    frontend.submit(2, b"b", deadline_s=1.5)
    await wait_until(lambda: host.engine.answers)
    host.engine.answers[b"a"].done(Usage(), "stop")
    await wait_until(lambda: len(frontend.ends()) >= 2)
    await asyncio.sleep(0.02)
    assert frontend.ends() == [(1, "stop"), (2, "504 deadline_exceeded")]


async def test_an_answer_ends_once(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"a")
    await wait_until(lambda: host.engine.answers)
    answer = host.engine.answers[b"a"]
    answer.fail(engine_failed("broke"))
    answer.done(Usage(), "stop")
    answer.fail(engine_failed("broke again"))
    await wait_until(frontend.ends)
    await asyncio.sleep(0.02)
    assert frontend.ends() == [(1, "502 engine_failed")]
    assert frontend.of(Fail)[0].retryable


@pytest.mark.filterwarnings("ignore")
async def test_a_request_that_cannot_start_fails_alone(host, wait_until):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["exception"]))
    frontend = await host.join()
    host.engine.broken = RuntimeError("no such thing")
    frontend.submit(1, b"a")
    await wait_until(frontend.ends)
    assert frontend.ends() == [(1, "502 engine_failed")]
    assert str(told[0]) == "no such thing"
    host.engine.broken = None
    frontend.submit(2, b"b")
    await wait_until(lambda: host.engine.answers)


async def test_a_doubled_id_breaks_the_protocol(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"a")
    frontend.submit(1, b"b")
    await wait_until(lambda: frontend.lost_error)
    assert host.engine.stopped == [b"a"]


async def test_draining_refuses_new_requests_and_tells_when_the_last_has_ended(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"a")
    await wait_until(lambda: host.engine.answers)
    frontend.send(Control("drain"))
    frontend.submit(2, b"b")
    await wait_until(frontend.ends)
    assert frontend.ends() == [(2, "503 draining")]
    assert frontend.of(Fail)[0].retryable
    assert frontend.controls() == []
    host.engine.answers[b"a"].done(Usage(), "stop")
    await wait_until(frontend.controls)
    assert frontend.controls()[0] == Control("drained")


async def test_draining_an_idle_host_is_done_at_once(host, wait_until):
    frontend = await host.join()
    frontend.send(Control("drain"))
    await wait_until(frontend.controls)
    assert frontend.controls() == [Control("drained")]


async def test_sleep_and_wake_report_how_they_went(host, wait_until):
    frontend = await host.join()
    frontend.send(Control("sleep", "2"))
    await wait_until(frontend.controls)
    host.engine.control_error = "sleep mode is off"
    frontend.send(Control("wake"))
    await wait_until(lambda: len(frontend.controls()) == 2)
    assert host.engine.controls == [("sleep", "2"), ("wake", "")]
    assert frontend.controls() == [Control("done", ""), Control("done", "sleep mode is off")]


async def test_an_error_of_sleep_that_quotes_its_argument_is_cut(host, wait_until):
    frontend = await host.join()
    host.engine.control_error = "x" * 70_000_000
    frontend.send(Control("sleep"))
    await wait_until(frontend.controls)
    assert frontend.controls()[0].argument.endswith("(69992000 more characters)")


async def test_load_is_told_on_change_and_not_too_often(host, wait_until):
    frontend = await host.join()
    await asyncio.sleep(0.06)
    begun = time.monotonic()
    for running in range(1, 40):
        host.engine.now = Load(running=running)
        host.server.load_changed()
        await asyncio.sleep(0.005)
    await wait_until(lambda: frontend.of(Load)[-1] == Load(running=39))
    told = len(frontend.of(Load))
    # 39 changes in 0.2 s, one frame per 0.05 s; on a busy machine they take longer
    assert 3 <= told <= 4 + (time.monotonic() - begun) / 0.05
    host.server.load_changed()
    await asyncio.sleep(0.12)
    assert len(frontend.of(Load)) == told  # nothing changed


async def test_closing_fails_what_runs_so_that_another_member_takes_it(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"a")
    await wait_until(lambda: host.engine.answers)
    host.server.close()
    await wait_until(lambda: frontend.lost_error)
    assert frontend.ends() == [(1, "503 stopping")]
    assert frontend.of(Fail)[0].retryable
    assert isinstance(frontend.frames[0], Hello)


async def test_a_slow_reader_loses_its_fat_stream_only(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"fat")
    frontend.submit(2, b"thin")
    await wait_until(lambda: len(host.engine.answers) == 2)
    frontend.channel._transport.pause_reading()
    fat, thin = host.engine.answers[b"fat"], host.engine.answers[b"thin"]
    block = b"x" * 500_000
    for _ in range(30):  # past the socket's buffer and the channel's high-water mark
        fat.chunk(block)
        await asyncio.sleep(0)
        if host.engine.stopped:
            break
    thin.chunk(b"thin 1 ")
    thin.chunk(b"thin 2")
    thin.done(Usage(), "stop")
    assert host.engine.stopped == [b"fat"]
    frontend.channel._transport.resume_reading()
    await wait_until(lambda: len(frontend.ends()) == 2)
    assert sorted(frontend.ends()) == [(1, "503 slow_reader"), (2, "stop")]
    assert frontend.bytes_of(2) == b"thin 1 thin 2"


async def test_one_large_body_reaches_a_slow_reader(host, wait_until):
    frontend = await host.join()
    frontend.submit(1, b"a")
    frontend.submit(2, b"b")
    await wait_until(lambda: len(host.engine.answers) == 2)
    frontend.channel._transport.pause_reading()
    for _ in range(30):
        host.engine.answers[b"a"].chunk(b"x" * 500_000)
        await asyncio.sleep(0)
        if host.engine.stopped:
            break
    body = b"y" * 50_000  # above the stream's bound, but whole
    host.engine.answers[b"b"].chunk(body)
    host.engine.answers[b"b"].done(Usage(), "stop")
    frontend.channel._transport.resume_reading()
    await wait_until(lambda: len(frontend.ends()) == 2)
    assert frontend.bytes_of(2) == body


async def test_answers_that_end_together_arrive_however_large_they_are(host, wait_until):
    frontend = await host.join()
    for id in range(1, 21):
        frontend.submit(id, b"%d" % id)
    await wait_until(lambda: len(host.engine.answers) == 20)
    for id in range(1, 21):
        host.engine.answers[b"%d" % id].chunk(bytes([id]) * 4_000_000)
        host.engine.answers[b"%d" % id].done(Usage(), "stop")
    await wait_until(lambda: len(frontend.ends()) == 20)
    assert frontend.ends() == [(id, "stop") for id in range(1, 21)]
    assert all(frontend.bytes_of(id) == bytes([id]) * 4_000_000 for id in range(1, 21))


@pytest.mark.parametrize("chunk", [object(), None, "text", 7, [b"x"]])
async def test_an_answer_that_cannot_be_sent_ends_in_an_error_and_stops(host, wait_until, chunk):
    told = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context["message"]))
    frontend = await host.join()
    frontend.submit(1, b"a")
    await wait_until(lambda: host.engine.answers)
    host.engine.answers[b"a"].chunk(chunk)
    await wait_until(frontend.ends)
    assert frontend.ends() == [(1, "502 engine_failed")]
    assert (host.engine.stopped, told) == ([b"a"], ["chunks could not be sent"])


def test_a_host_that_ends_leaves_the_socket_of_the_one_that_took_its_place(tmp_path):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        first.bind(path)
        inode = os.lstat(path).st_ino
        os.rename(path, path + ".kept")  # else the next may get its number
        second.bind(path)
        remove_socket(path, inode)
        assert os.path.exists(path)
        remove_socket(path, os.lstat(path).st_ino)
        assert not os.path.exists(path)
        remove_socket(path)
