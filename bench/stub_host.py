"""A stand-in for `router.host`: the same frames over the same socket, started the same way, and no engine behind it.

Answers at once, or streams numbered tokens in ticks as an engine does: each step, one token for every running stream.
`engine_args` of its spec set `tick_s`; a request's `user` field asks for trouble (`fail`).
"""

import asyncio
import os
import sys
import zlib

import msgspec
import uvloop

from router.ipc.channel import Channel
from router.ipc.messages import Abort, Chunks, Control, Done, Fail, Hello, Load, Message, Submit
from router.ipc.spec import HostSpec
from router.types import Timings, Usage


class _Body(msgspec.Struct):
    """The fields that shape an answer."""

    stream: bool = False
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    user: str = ""

    @property
    def tokens(self) -> int:
        return self.max_completion_tokens or self.max_tokens or 16


_decode_body = msgspec.json.Decoder(_Body).decode
_CONTENT = "\x00"  # cannot occur in JSON text: the place where an answer's content goes
_FAILURE = b'{"error":{"message":"the stub was asked to fail","type":"engine_error","param":null,"code":"stub_failed"}}'


def check_of(body: bytes) -> str:
    """What a non-streaming answer says: proof that it belongs to this request."""
    return f"{zlib.crc32(body):08x}"


class _Stream:
    """One answer that is being streamed."""

    __slots__ = ("at", "head", "id", "last", "tail")

    def __init__(self, id: int, model: str, last: int) -> None:
        self.id, self.at, self.last = id, 0, last
        chunk = {
            "id": f"chatcmpl-{id:016x}",
            "object": "chat.completion.chunk",
            "created": 1700000000,
            "model": model,
            "choices": [{"index": 0, "delta": {"content": _CONTENT}, "logprobs": None, "finish_reason": None}],
        }
        self.head, self.tail = (b"data: " + msgspec.json.encode(chunk) + b"\n\n").split(b"\\u0000")

    def next(self) -> bytes:
        """The next token's event; with the last one, what closes the stream."""
        event = self.head + b" %d" % self.at + self.tail
        self.at += 1
        if self.at < self.last:
            return event
        closing = self.tail.replace(b'"finish_reason":null', b'"finish_reason":"length"')
        return event + self.head + closing + b"data: [DONE]\n\n"


class StubHost:
    """One connection's host. A `router.ipc.channel.Handler`."""

    def __init__(self, spec: HostSpec) -> None:
        self._model = spec.name
        self._tick_s = float(spec.engine_args.get("tick_s", 0.01))
        self._loop = asyncio.get_running_loop()
        self._channel: Channel | None = None
        self._streams: dict[int, _Stream] = {}
        self._load_interval_s = spec.load_interval_s
        self._load_timer: asyncio.TimerHandle | None = None
        self._writable = True
        self._timer: asyncio.TimerHandle | None = None
        self._whole_head, self._whole_tail = self._whole_answer()
        self._answered: list[tuple[int, bytes]] = []

    def connected(self, channel: Channel) -> None:
        self._channel = channel
        able = ("chat", "completions", "tools", "structured", "logprobs")
        hello = Hello(role="host", model=self._model, capabilities=able, context_tokens=32_768, kv_tokens=1 << 20)
        channel.send(msgspec.structs.replace(hello, max_running=1024, engine_version="stub 1", pid=os.getpid()))
        self._report()

    def received(self, message: Message) -> None:
        if type(message) is Submit:
            self._submit(message)
            if self._load_timer is None:
                self._load_timer = self._loop.call_later(self._load_interval_s, self._report)
        elif type(message) is Abort:
            self._streams.pop(message.id, None)
        elif type(message) is Control:
            answers = {"ping": "pong", "drain": "drained", "sleep": "done", "wake": "done", "stop": "done"}
            self._send(Control(answers[message.op], message.argument))  # type: ignore[arg-type]

    def lost(self, error: Exception | None) -> None:
        self._channel = None
        self._streams.clear()

    def writable(self, writable: bool) -> None:
        self._writable = writable

    def _submit(self, message: Submit) -> None:
        body = _decode_body(message.body)
        if body.user == "fail":
            self._send(Fail(id=message.id, status=500, body=_FAILURE, code="stub_failed"))
        elif body.stream:
            self._streams[message.id] = _Stream(message.id, self._model, body.tokens)
            self._wake()
        else:
            self._answer(message)

    def _answer(self, message: Submit) -> None:
        """The whole answer, in one frame with all others of this tick of the loop."""
        if not self._answered:
            self._loop.call_soon(self._flush)
        text = self._whole_head + check_of(message.body).encode() + self._whole_tail
        self._answered.append((message.id, text))

    def _flush(self) -> None:
        answered, self._answered = self._answered, []
        self._send(Chunks(answered))
        for id, _ in answered:
            self._send(Done(id=id, usage=Usage(120, 1, 0), timings=Timings(0.0, 0.0)))

    def _report(self) -> None:
        """The load, as often as a host reports it while there is any."""
        self._load_timer = None
        running = len(self._streams)
        if running:
            self._load_timer = self._loop.call_later(self._load_interval_s, self._report)
        self._send(Load(running=running, prefill_tokens_per_s=50_000.0, time_per_output_token_s=self._tick_s))

    def _wake(self) -> None:
        if self._timer is None:
            self._timer = self._loop.call_later(self._tick_s, self._tick, self._loop.time() + self._tick_s)

    def _tick(self, due: float) -> None:
        self._timer = None
        if self._writable and self._streams:
            self._step()
        if self._streams:
            # Keep the beat when a tick comes late, but never run after lost time.
            following = max(due + self._tick_s, self._loop.time())
            self._timer = self._loop.call_at(following, self._tick, following)

    def _step(self) -> None:
        streams = list(self._streams.values())
        self._send(Chunks([(stream.id, stream.next()) for stream in streams]))
        for stream in streams:
            if stream.at >= stream.last:
                del self._streams[stream.id]
                self._send(Done(id=stream.id, usage=Usage(120, stream.last, 0), finish_reason="length"))

    def _send(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)

    def _whole_answer(self) -> tuple[bytes, bytes]:
        message = {"role": "assistant", "content": _CONTENT}
        head = {"id": "chatcmpl-0123456789abcdef", "object": "chat.completion", "created": 1700000000}
        choices = [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}]
        usage = {"prompt_tokens": 120, "total_tokens": 121, "completion_tokens": 1}
        text = msgspec.json.encode({**head, "model": self._model, "choices": choices, "usage": usage})
        before, after = text.split(b"\\u0000")
        return before, after


async def serve(spec: HostSpec) -> None:
    """Listen on the spec's socket until standard input ends: whoever started us is gone."""
    loop = asyncio.get_running_loop()
    old = os.umask(0o177)
    try:
        server = await loop.create_unix_server(lambda: Channel(StubHost(spec), loop), spec.socket)
    finally:
        os.umask(old)
    async with server:
        await loop.run_in_executor(None, sys.stdin.buffer.read)
        server.close()


def main() -> None:
    spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=HostSpec)
    uvloop.run(serve(spec))


if __name__ == "__main__":
    main()
