"""A host process without an engine that does what its script says, well or badly.

`engine_args` script the start: `fail` (text for standard error, then exit 1), `slow_s`, `says` (for its log), `silent`
(no Hello), `version`, `called` (what its Hello claims), `refuses` (why it lets nobody in), `grandchild` (a process that
outlives a killed host), `deaf` (answers no ping), `capabilities`, `core` (a process, by whose end the host fails all
its requests and ends, as by that of an engine core), `metrics` (its page, `ASKED` in it: how often it was asked; null:
no answer), `verbs` (of its Hello), `lora_modules` (its adapters), `refuses_again` (names of those that it does not load
again), `on` (scripts of what an operator asks, by path), `max_running` (of its Hello; it runs more all the same, and an
echo tells the `most` that it had at once, of all its connections).
A request's `user` field holds its script, JSON: `["chunk", text, times]`, `["done"]`, `["fail", status, code,
retryable]`, `["sleep", s]`, `["await", path]` (a file), `["die"]`, `["garbage"]`, `["hang"]`,
`["hang_up"]` (the connection), `["stranger"]` (frames of an id that does not exist), `["twice"]` (a second end),
`["claim", usage, timings]` (an end of such figures), `["load", fields]`, `["handoff"]`, `["count", of]` (a chunk: how
many others run), `["say", text, s, stop]` (a chat's answer of these words, each after so long, from `continue_text` on;
of one that is watched and begins here the watch stops it after `stop` words, one of which was not sent).
"""

import asyncio
import json
import os
import subprocess
import sys
import time
from typing import Any

import msgspec

from router.config import adapters_of
from router.host.owners import Owners
from router.ipc.channel import Channel
from router.ipc.messages import (
    PROTOCOL_VERSION,
    Abort,
    Chunks,
    Control,
    Done,
    Fail,
    Handoff,
    Hello,
    Load,
    Message,
    Submit,
)
from router.ipc.spec import ArgumentRefusal, HostSpec
from router.steps import StepSums
from router.types import Timings, Usage
from router.watched import Continued

_VERBS = ("metrics", "admin", "stored", "hand_over", "give_up")
_OF_OWNERS = ("hand_over", "give_up")
CORE_DIED = b'{"error":{"message":"the engine died","type":"engine_error","code":"engine_failed"}}'


class ScriptedHost:
    """One connection of `hosts`."""

    most = 0

    def __init__(self, spec: HostSpec, owners: "Owners[ScriptedHost]", hosts: "list[ScriptedHost]") -> None:
        self._hosts = hosts
        self._args = spec.engine_args
        self._owners = owners
        self._name = spec.name
        self._channel: Channel | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._aborted = self._asked = 0
        self._greeted = Hello()
        refused = self._args.get("refuses_again", ())
        again = tuple(adapter for adapter in spec.adapters if adapter.name not in refused)
        self._adapters = (*adapters_of(self._args), *again)

    def connected(self, channel: Channel) -> None:
        self._channel = channel
        if self._args.get("silent") or "refuses" in self._args:
            return
        context_tokens = self._args.get("context_tokens", 1000)
        able = tuple(self._args.get("capabilities", ("chat", "completions")))
        channel.send(
            Hello(
                role="host",
                version=self._args.get("version", PROTOCOL_VERSION),
                model=self._args.get("called", self._name),
                capabilities=able,
                context_tokens=context_tokens,
                max_running=self._args.get("max_running", 0),
                pid=os.getpid(),
                verbs=tuple(self._args.get("verbs", _VERBS if "metrics" in self._args else _VERBS[1:])),
                adapters=self._adapters,
            )
        )
        channel.send(Load(prefill_tokens_per_s=1000.0, time_per_output_token_s=0.01))

    def received(self, message: Message) -> None:
        if isinstance(message, Hello):
            self._greeted = message
            self._join(message)
            if "refuses" in self._args:  # once all is read: a socket closed before would take the refusal along
                self._send(Control("refused", self._args["refuses"]))
                assert self._channel is not None
                self._channel.close()
        elif isinstance(message, Submit):
            self._tasks[message.id] = task = asyncio.create_task(self._play(message))
            running = sum(len(host._tasks) for host in self._hosts)
            ScriptedHost.most = max(ScriptedHost.most, running)
            task.add_done_callback(lambda _: self._tasks.pop(message.id, None))
        elif isinstance(message, Abort):
            self._aborted += 1
            task = self._tasks.pop(message.id, None)
            if task is not None:
                task.cancel()
        elif isinstance(message, Control) and message.op == "metrics":
            self._asked += 1
            if (page := self._args.get("metrics")) is not None:
                self._send(Control("metrics", page.replace("ASKED", str(self._asked))))
        elif isinstance(message, Control) and message.op in _OF_OWNERS:
            op = message.op
            if self in self._owners:
                why = self._owners.hand_over(message.argument) if op == "hand_over" else self._owners.give_up(self)
            else:
                why = "only the owner may ask for it"
            self._send(Control("refused", why) if why else message)
        elif isinstance(message, Control) and not self._args.get("deaf"):
            self._send(Control("pong", message.argument))

    def _join(self, hello: Hello) -> None:
        """By the rule of real hosts; its Hello was sent before, which is no matter here."""
        assert self._channel is not None
        if hello.role == "owner":
            pid = self._channel.peer_pid
            if why := self._owners.refusal(pid):
                self._send(Control("refused", why))
                self._channel.close()
            else:
                self._owners.join(self, pid)

    def lost(self, error: Exception | None) -> None:
        self._channel = None
        self._owners.left(self)
        for task in self._tasks.values():
            task.cancel()

    def writable(self, writable: bool) -> None: ...

    async def core_died(self) -> None:
        """Fail all that runs, and let it leave."""
        for id, task in list(self._tasks.items()):
            task.cancel()
            self._send(Fail(id=id, status=502, body=CORE_DIED, code="engine_failed", retryable=True))
        await asyncio.sleep(0.05)

    def _send(self, message: Message) -> None:
        if self._channel is not None:
            self._channel.send(message)

    async def _play(self, submit: Submit) -> None:
        fields = json.loads(submit.body)
        on: list[Any] | None = None
        if submit.kind == "admin":
            on = self._args.get("on", {}).get(fields["path"])
            fields = json.loads(fields["body"] or "{}")
        script = on or json.loads(fields.get("user") or '[["echo"], ["done"]]')
        for step in script:
            await self._step(submit, step)

    async def _step(self, submit: Submit, step: list[Any]) -> None:
        id, what = submit.id, step[0]
        if what == "echo":
            hello = {"role": self._greeted.role, "secret": self._greeted.secret.decode()}
            answer = {"model": self._name, "hello": hello, "body": json.loads(submit.body), "aborted": self._aborted}
            mps = {key: value for key, value in os.environ.items() if key.startswith("CUDA_MPS_")}
            answer |= {"mps": mps} if mps else {}
            answer |= {"adapter": submit.adapter} if submit.adapter else {}
            answer |= {"most": self.most, "priority": submit.priority} if "max_running" in self._args else {}
            self._send(Chunks([(id, json.dumps(answer).encode())]))
        elif what == "chunk":
            text, times = step[1], step[2] if len(step) > 2 else 1
            self._send(Chunks([(id, text.encode() * times)]))
        elif what == "done":
            self._send(Done(id=id, usage=Usage(10, 5, 2), timings=Timings(0.1, 0.3)))
        elif what == "claim":
            self._send(Done(id=id, usage=Usage(*step[1]), timings=Timings(*step[2])))
        elif what == "load":
            fields = dict(step[1])
            if "sums" in fields:
                fields["sums"] = msgspec.convert(fields["sums"], StepSums)
            self._send(Load(**fields))
        elif what == "fail":
            error = {"error": {"message": f"scripted {step[1]}", "type": "scripted", "code": step[2]}}
            body = json.dumps(error).encode()
            self._send(Fail(id=id, status=step[1], body=body, code=step[2], retryable=step[3]))
        elif what == "sleep":
            await asyncio.sleep(step[1])
        elif what == "await":
            while not os.path.exists(step[1]):
                await asyncio.sleep(0.01)
        elif what == "die":
            os.kill(os.getpid(), 9)
        elif what == "garbage":
            assert self._channel is not None
            self._channel._transport.write(b"\x05\x00\x00\x00garba")  # type: ignore[union-attr]
        elif what == "stranger":
            self._send(Chunks([(id + 1000, b"not yours")]))
            self._send(Done(id=id + 1000))
            self._send(Fail(id=id + 1001, status=500, body=b""))
        elif what == "twice":
            self._send(Done(id=id))
            self._send(Chunks([(id, b"late")]))
            self._send(Fail(id=id, status=500, body=b""))
        elif what == "hang_up":
            assert self._channel is not None
            self._channel.close()
        elif what == "handoff":
            self._send(Handoff(id=id, text="", tokens=0, why="scripted"))
        elif what == "say":
            await self._say(submit, step[1], step[2], step[3] if len(step) > 3 else 0)
        elif what == "count":
            self._send(Chunks([(id, json.dumps({"of": step[1], "running": len(self._tasks) - 1}).encode())]))
        elif what == "hang":
            import time

            time.sleep(3600)

    async def _say(self, submit: Submit, text: str, pause_s: float, stop: int) -> None:
        known, done = submit.continued or Continued(), submit.continue_text
        assert text.startswith(done), (text, done)
        stream = bool(json.loads(submit.body).get("stream"))
        head = {"id": known.id or f"chat-{self._name}-{submit.id}", "created": known.created or 7}
        head["model"] = known.model or self._name
        sent = done[: known.sent] if stream else ""
        every = [f" {word}" if i else word for i, word in enumerate(text.split(" "))]
        words = every[len(done.split(" ")) if done else 0 :]
        told, made = done, 0
        for word in words:
            await asyncio.sleep(pause_s)
            told, made = told + word, made + 1
            if stop and submit.watch and not done and made == stop:
                wrote = ((self._name, made),)
                gone = Continued(
                    opened=bool(sent), completion_tokens=made, sent=len(sent), prompt_tokens=10, wrote=wrote, **head
                )
                self._send(
                    Handoff(id=submit.id, text=told, tokens=made, why="watch", usage=Usage(10, made), continued=gone)
                )
                return
            if stream:
                self._tell(submit.id, head, {"index": 0, "delta": {"content": told[len(sent) :]}})
                sent = told
        total = known.completion_tokens + made
        usage = {"prompt_tokens": 10, "completion_tokens": total, "total_tokens": 10 + total}
        if stream:
            last = {"content": told[len(sent) :]} if sent != told else {}
            self._tell(submit.id, head, {"index": 0, "delta": last, "finish_reason": "stop"})
            self._send(Chunks([(submit.id, b"data: [DONE]\n\n")]))
        else:
            choice = {"index": 0, "message": {"role": "assistant", "content": told}, "finish_reason": "stop"}
            self._send(Chunks([(submit.id, json.dumps({**head, "choices": [choice], "usage": usage}).encode())]))
        self._send(Done(id=submit.id, usage=Usage(10 + known.completion_tokens, made), timings=Timings(0.1, 0.3)))

    def _tell(self, id: int, head: dict[str, Any], choice: dict[str, Any]) -> None:
        self._send(Chunks([(id, b"data: " + json.dumps({**head, "choices": [choice]}).encode() + b"\n\n")]))


async def serve(spec: HostSpec) -> None:
    loop = asyncio.get_running_loop()
    args = spec.engine_args
    if "grandchild" in args:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        with open(args["grandchild"], "w") as file:
            file.write(str(child.pid))
    ask(spec)
    if "says" in args:
        print(args["says"], file=sys.stderr, flush=True)
    await asyncio.sleep(args.get("slow_s", 0.0))
    if "fail" in args:
        print(args["fail"], file=sys.stderr)
        sys.exit(1)
    hosts: list[ScriptedHost] = []
    owners: Owners[ScriptedHost] = Owners(lambda: os._exit(0))

    def connected() -> Channel:
        hosts.append(ScriptedHost(spec, owners, hosts))
        return Channel(hosts[-1], loop)

    server = await loop.create_unix_server(connected, spec.socket)
    os.chmod(spec.socket, 0o600)
    if args.get("core"):
        watching = asyncio.create_task(watch_core(hosts))
        watching.add_done_callback(lambda _: os._exit(1))
    async with server:
        await loop.run_in_executor(None, sys.stdin.buffer.read)
        os._exit(0)


def ask(spec: HostSpec) -> None:
    """Before it loads, as real hosts do. `imports_s`: until then; `refused`: an argument and why; `unasked`: it does
    not ask."""
    args = spec.engine_args
    time.sleep(args.get("imports_s", 0.0))
    if spec.asks_fd < 0 or args.get("unasked"):
        return
    if "fail_early" in args:
        print(args["fail_early"], file=sys.stderr)
        sys.exit(1)
    refusal = None
    if "refused" in args:
        refusal = ArgumentRefusal(key=args["refused"], why="vLLM has no such argument")
    with os.fdopen(spec.asks_fd, "wb") as asks:
        asks.write(args["answer"].encode() if "answer" in args else msgspec.json.encode(refusal) + b"\n")
    if refusal is not None or not os.read(0, 1):
        sys.exit(1)


async def watch_core(hosts: list[ScriptedHost]) -> None:
    core = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)  # ends with us, too
    await core.wait()
    for host in hosts:
        await host.core_died()


if __name__ == "__main__":
    asyncio.run(serve(msgspec.json.decode(sys.stdin.buffer.readline(), type=HostSpec)))
