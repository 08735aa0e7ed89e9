"""A question of our own to one member, and its whole answer: a verdict, or what an operator asks for."""

import asyncio

from router.errors import EngineFailed
from router.ipc.messages import Done, Handoff
from router.native.call import Call
from router.pool.base import Failure, PoolMember, Work
from router.types import Kind


class _Reply(Call):
    """Keeps the whole answer; `end` is done when the last of it has come."""

    def __init__(self) -> None:
        self.atypical = True  # its length tells nothing of answers
        self.parts: list[bytes] = []
        self.end: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def chunk(self, data: bytes) -> None:
        if not self.parts:
            self.go("answering")
        self.parts.append(data)

    def done(self, done: Done) -> None:
        if not self.end.done():
            self.end.set_result(None)

    def handoff(self, handoff: Handoff) -> None:
        self.fail(Failure(EngineFailed("it was handed on, and nobody takes it")))

    def fail(self, failure: Failure) -> None:
        if not self.end.done():
            self.end.set_exception(failure.error)


async def ask(member: PoolMember, body: bytes, limit_s: float, kind: Kind = "chat") -> bytes:
    """The member's answer. Raises `RouterError`, and TimeoutError after `limit_s`; the question is then taken back."""
    reply = _Reply()
    work = Work(kind=kind, body=body, prompt_tokens=len(body) // 4, deadline_s=limit_s)
    member.submit(work, reply)
    reply.go("waiting")
    try:
        async with asyncio.timeout(limit_s):
            await reply.end
    except (TimeoutError, asyncio.CancelledError):
        member.abort(reply)
        raise
    return b"".join(reply.parts)
