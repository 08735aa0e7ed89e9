"""A host whose engine runs in steps as vLLM's does, and counts them: for how many a request waits for its first token.

`engine_args`: `step_s`, `token_s` (that a step takes more for each prompt token that it reads), `most_running`
(sequences), `budget` (tokens of a step), `kv_tokens`. A step gives each running sequence a token, or reads on in its
prompt, those that run first; with what is left of the budget those that wait begin, the lowest priority number first.
A body's `prompt_tokens` and `max_tokens` say how long it is. The answer is `{"steps": n}`: from its arrival to its
first token, the step under way counted; a stream has an event a token.
"""

import asyncio
import json
import os
import sys

import msgspec

from router.ipc.channel import Channel
from router.ipc.messages import Abort, Chunks, Control, Done, Hello, Load, Message, Submit
from router.ipc.spec import HostSpec
from router.types import Timings, Usage


class Sequence:
    def __init__(self, submit: Submit, step: int) -> None:
        fields = json.loads(submit.body)
        self.id = submit.id
        self.priority = submit.priority
        self.prompt_tokens = self.unread = int(fields.get("prompt_tokens", 10))
        self.wanted = int(fields.get("max_tokens", 10))
        self.stream = bool(fields.get("stream"))
        self.told = 0  #: of a stream's tokens
        self.written = 0
        self.arrived = step
        self.first = 0

    @property
    def held(self) -> int:
        return self.prompt_tokens - self.unread + self.written


class SteppingHost:
    def __init__(self, spec: HostSpec) -> None:
        args = spec.engine_args
        self._step_s = float(args.get("step_s", 0.01))
        self._token_s = float(args.get("token_s", 0.0))
        self._most = int(args.get("most_running", 16))
        self._budget = int(args.get("budget", 2048))
        self._kv_tokens = int(args.get("kv_tokens", 1 << 30))
        self._by_priority = bool(args.get("by_priority", False))
        self._name = spec.name
        self._channel: Channel | None = None
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._step = 0
        self._stepping: asyncio.Task[None] | None = None

    def connected(self, channel: Channel) -> None:
        self._channel = channel
        hello = Hello(role="host", model=self._name, capabilities=("chat",), context_tokens=1 << 20, pid=os.getpid())
        channel.send(msgspec.structs.replace(hello, max_running=self._most))
        self._report()

    def received(self, message: Message) -> None:
        if isinstance(message, Submit):
            self._waiting.append(Sequence(message, self._step))
            if self._stepping is None:
                self._stepping = asyncio.create_task(self._run())
        elif isinstance(message, Abort):
            self._running = [each for each in self._running if each.id != message.id]
            self._waiting = [each for each in self._waiting if each.id != message.id]
        elif isinstance(message, Control):
            self._send(Control("pong", message.argument))

    def lost(self, error: Exception | None) -> None:
        self._channel = None

    def writable(self, writable: bool) -> None: ...

    async def _run(self) -> None:
        while self._running or self._waiting:
            await asyncio.sleep(self._step_s)
            self._step += 1
            if read := self._do_step():
                await asyncio.sleep(self._token_s * read)
            self._tell()
            if self._step % 3 == 0:
                self._report()
        self._report()
        self._stepping = None

    def _do_step(self) -> int:
        """Prompt tokens that were read."""
        budget = self._budget
        unread = sum(each.unread for each in (*self._running, *self._waiting))
        if self._by_priority:
            self._waiting.sort(key=lambda each: each.priority)
        for each in self._running:
            if budget > 0:
                budget -= self._give(each, budget)
        while self._waiting and len(self._running) < self._most and budget > 0:
            if sum(each.held for each in self._running) + self._waiting[0].prompt_tokens > self._kv_tokens:
                break
            each = self._waiting.pop(0)
            self._running.append(each)
            budget -= self._give(each, budget)
        return unread - sum(each.unread for each in (*self._running, *self._waiting))

    def _tell(self) -> None:
        for each in [each for each in self._running if each.stream and each.written > each.told]:
            each.told = each.written
            self._send(Chunks([(each.id, self.token(each))]))
        for each in [each for each in self._running if each.written >= each.wanted]:
            self._running.remove(each)
            whole = json.dumps({"steps": each.first - each.arrived, "choices": [{}]}).encode()
            self._send(Chunks([(each.id, b"data: [DONE]\n\n" if each.stream else whole)]))
            usage = Usage(each.prompt_tokens, each.written, 0)
            self._send(Done(id=each.id, usage=usage, timings=Timings(self._step_s, self._step_s * each.wanted)))

    def token(self, each: Sequence) -> bytes:
        """Its newest token, as an event of a stream."""
        return b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'

    def _give(self, each: Sequence, budget: int) -> int:
        if not each.unread:
            each.written += 1
            return 1
        read = min(budget, each.unread)
        each.unread -= read
        if not each.unread:
            each.first, each.written = self._step, 1
        return read

    def _report(self) -> None:
        held = sum(each.held for each in self._running)
        self._send(
            Load(
                running=len(self._running),
                waiting=len(self._waiting),
                kv_use=min(1.0, held / self._kv_tokens),
                prefill_tokens_per_s=1.0 / (self._token_s or self._step_s / self._budget),
                time_per_output_token_s=self._step_s,
            )
        )

    def _send(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)


async def serve(spec: HostSpec, kind: type[SteppingHost] = SteppingHost) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(lambda: Channel(kind(spec), loop), spec.socket)
    os.chmod(spec.socket, 0o600)
    async with server:
        await loop.run_in_executor(None, sys.stdin.buffer.read)
        os._exit(0)


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(sys.stdin.buffer.readline(), type=HostSpec)))
