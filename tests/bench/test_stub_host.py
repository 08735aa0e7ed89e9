"""The stand-in for an engine host keeps the contract of the frames."""

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec
import pytest
import stub_host

from router.ipc.channel import Channel
from router.ipc.messages import Abort, Chunks, Control, Done, Fail, Hello, Load, Submit
from router.ipc.spec import HostSpec
from tests.conftest import until


class Listener:
    def __init__(self):
        self.channel = None
        self.messages = []

    def connected(self, channel):
        self.channel = channel

    def received(self, message):
        self.messages.append(message)

    def lost(self, error):
        self.channel = None

    def writable(self, writable):
        pass

    async def until(self, done):
        await until(lambda: done(self.messages), lambda: self.messages[-3:])

    def of(self, kind):
        return [message for message in self.messages if isinstance(message, kind)]

    def bytes_of(self, id):
        return b"".join(data for chunks in self.of(Chunks) for key, data in chunks.items if key == id)


@pytest.fixture
async def host():
    with tempfile.TemporaryDirectory() as folder:
        spec = HostSpec(name="small", model="stub", socket=f"{folder}/s", engine_args={"tick_s": 0.001})
        process = subprocess.Popen([sys.executable, "-P", stub_host.__file__], stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(spec) + b"\n")
        process.stdin.flush()
        await until(Path(spec.socket).exists)
        listener = Listener()
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: Channel(listener, loop), spec.socket)
        yield listener
        if listener.channel is not None:
            listener.channel.close()
        process.stdin.close()
        assert process.wait(timeout=60) == 0


async def test_it_greets_and_tells_its_load(host):
    await host.until(lambda messages: len(messages) >= 2)
    hello, load = host.messages[:2]
    assert isinstance(hello, Hello)
    assert (hello.role, hello.model) == ("host", "small")
    assert isinstance(load, Load)


async def test_a_whole_answer_names_its_request(host):
    body = b'{"messages":[]}'
    host.channel.send(Submit(id=7, kind="chat", body=body))
    await host.until(lambda _: host.of(Done))
    said = json.loads(host.bytes_of(7))
    assert said["choices"][0]["message"]["content"] == stub_host.check_of(body)
    assert said["model"] == "small"


async def test_a_stream_is_numbered_and_closed(host):
    host.channel.send(Submit(id=1, kind="chat", body=b'{"stream":true,"max_tokens":5}'))
    host.channel.send(Submit(id=2, kind="chat", body=b'{"stream":true,"max_tokens":3}'))
    await host.until(lambda _: len(host.of(Done)) == 2)
    events = host.bytes_of(1).decode().split("\n\n")
    assert events[-2:] == ["data: [DONE]", ""]
    deltas = [json.loads(event[6:])["choices"][0] for event in events[:-2]]
    assert [delta["delta"]["content"] for delta in deltas] == [" 0", " 1", " 2", " 3", " 4", ""]
    assert deltas[-1]["finish_reason"] == "length"
    # One token for every running stream per tick: both advance in the same frames.
    assert any({key for key, _ in chunks.items} == {1, 2} for chunks in host.of(Chunks))


async def test_an_abort_ends_a_stream_and_trouble_comes_on_request(host):
    host.channel.send(Submit(id=1, kind="chat", body=b'{"stream":true,"max_tokens":100000}'))
    await host.until(lambda _: host.of(Chunks))
    host.channel.send(Abort(1))
    host.channel.send(Submit(id=2, kind="chat", body=b'{"user":"fail"}'))
    host.channel.send(Control("ping"))
    await host.until(lambda _: host.of(Control))
    assert host.of(Fail)[0].status == 500
    seen = len(host.of(Chunks))
    await asyncio.sleep(0.05)
    assert len(host.of(Chunks)) == seen
    assert not host.of(Done)
