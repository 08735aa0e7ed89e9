"""A stepping host (stepping_host.py) whose answers are right or wrong: it repeats the number of a question's end.

`engine_args` besides: `right_upto`, the highest level of a question, `level 1: repeat 17`, that it answers rightly; of
a higher one it says a wrong number. Every token but the last is a word.
"""

import asyncio
import json
import sys
from pathlib import Path

import msgspec

from router.ipc.messages import Message, Submit
from router.ipc.spec import HostSpec

sys.path.insert(0, str(Path(__file__).resolve().parent))  # hosts are started with -P

import stepping_host


def event(content: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"delta": {"content": content}}]}).encode() + b"\n\n"


class GradedHost(stepping_host.SteppingHost):
    def __init__(self, spec: HostSpec) -> None:
        super().__init__(spec)
        self._right_upto = int(spec.engine_args.get("right_upto", 1))
        self._last: dict[int, str] = {}  #: words of answers under way

    def received(self, message: Message) -> None:
        if isinstance(message, Submit):
            self._last[message.id] = self._answer(json.loads(message.body)["messages"][-1]["content"])
        super().received(message)

    def token(self, each: stepping_host.Sequence) -> bytes:
        return event(self._last.pop(each.id, "") if each.written >= each.wanted else "so ")

    def _answer(self, question: str) -> str:
        level, number = int(question.split()[1].rstrip(":")), int(question.split()[-1])
        return str(number if level <= self._right_upto else number + 1)


if __name__ == "__main__":
    asyncio.run(stepping_host.serve(msgspec.json.decode(sys.stdin.buffer.readline(), type=HostSpec), GradedHost))
