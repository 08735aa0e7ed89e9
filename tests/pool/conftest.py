"""A scripted host process, and a receiver that notes what it hears."""

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from router.ipc.messages import Done, Handoff
from router.native.call import Call
from router.pool.base import Failure
from router.pool.openai import OpenAIMember
from tests.conftest import patience
from tests.pool.raw_upstream import Act, RawUpstream, member_of, work

HERE = Path(__file__).resolve().parent


@pytest.fixture
def host_command() -> tuple[str, ...]:
    return (sys.executable, "-P", str(HERE / "scripted_host.py"))


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short enough for a socket's path, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="hg-") as path:
        yield Path(path)


class Heard(Call):
    """A `Call` that notes what it hears. `ends` must have one entry when all is over."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.ends: list[Done | Handoff | Failure] = []
        self.over = asyncio.Event()

    def chunk(self, data: bytes) -> None:
        assert not self.ends
        self.chunks.append(data)

    def done(self, done: Done) -> None:
        self._end(done)

    def handoff(self, handoff: Handoff) -> None:
        self._end(handoff)

    def fail(self, failure: Failure) -> None:
        self._end(failure)

    def _end(self, end: Done | Handoff | Failure) -> None:
        self.ends.append(end)
        self.over.set()

    async def end(self) -> Done | Handoff | Failure:
        async with patience():
            await self.over.wait()
        return self.ends[0]


@pytest.fixture
def heard() -> type[Heard]:
    return Heard


@pytest.fixture
async def raw() -> AsyncIterator[RawUpstream]:
    upstream = RawUpstream()
    await upstream.start()
    yield upstream
    await upstream.stop()


class Asked:
    """One member of the raw upstream, and requests to it."""

    def __init__(self, raw: RawUpstream, member: OpenAIMember) -> None:
        self.raw = raw
        self.member = member

    async def __call__(self, *answers: bytes | Act, **fields: Any) -> tuple[bytes, Done | Handoff | Failure]:
        """What a request is answered with when the upstream says `answers`: the bytes passed on, and the end."""
        if answers:
            self.raw.answers = list(answers)
        receiver = Heard()
        self.member.submit(work(**fields), receiver)
        end = await receiver.end()
        return b"".join(receiver.chunks), end


@pytest.fixture
async def asked(raw: RawUpstream) -> AsyncIterator[Asked]:
    member = member_of(raw)
    await member.start()
    yield Asked(raw, member)
    await member.stop()
