"""The pipe on which a host says that its arguments are read."""

import asyncio
import os

import msgspec
import pytest

from router.ipc.spec import ArgumentRefusal
from router.pool.asking import Asking
from tests.conftest import patience


@pytest.mark.parametrize(
    ("said", "answer"),
    [
        ([b"null\n"], None),
        ([b"nu", b"ll", b"\n"], None),
        ([b'{"key":"dtype","why":"no such"}\n'], ArgumentRefusal(key="dtype", why="no such")),
    ],
)
async def test_a_line_in_any_pieces_is_the_answer(said: list[bytes], answer: ArgumentRefusal | None) -> None:
    asking = Asking()
    waiting = asyncio.create_task(asking.answer())
    for piece in said:
        await asyncio.sleep(0.01)
        os.write(asking.fd, piece)
    async with patience():
        assert await waiting == answer
    asking.close()


async def test_what_is_no_answer_is_refused() -> None:
    asking = Asking()
    os.write(asking.fd, b"ready!\n")
    with pytest.raises(msgspec.DecodeError):
        await asking.answer()
    asking.close()


async def test_a_host_that_ends_without_a_word_gives_no_answer() -> None:
    asking = Asking()
    waiting = asyncio.create_task(asking.answer())
    asking.handed_over()
    done, _ = await asyncio.wait([waiting], timeout=0.1)
    assert not done
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    asking.close()


async def test_a_pipe_closed_while_it_is_read_leaves_its_number_free_for_others() -> None:
    asking = Asking()
    number = asking._read
    waiting = asyncio.create_task(asking.answer())
    await asyncio.sleep(0)
    asking.close()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    other = Asking()
    assert other._read == number
    os.write(other.fd, b"null\n")
    async with patience():
        assert await other.answer() is None
    other.close()
