"""Routes that a member's own server answers whole, of a member that is a URL."""

import asyncio
import json
from typing import Any

import pytest

from router.dialects.forms import read_form
from router.errors import BadRequest, EngineFailed
from router.ipc.messages import Done
from router.pool.base import Failure, Work
from router.types import Usage
from tests.pool.conftest import Asked, Heard
from tests.pool.raw_upstream import answer, data, read_body

EMBEDDINGS = {"object": "list", "model": "up", "data": [{"embedding": "AAAA"}], "usage": {"prompt_tokens": 4}}
RANKS = {"model": "up", "results": [{"index": 0}], "usage": {"prompt_tokens": 3, "total_tokens": 3}}


@pytest.mark.parametrize(
    ("kind", "said", "path", "tokens"),
    [
        ("embeddings", EMBEDDINGS, b"/v1/embeddings", 4),
        ("rerank", RANKS, b"/v1/rerank", 3),
        ("score", EMBEDDINGS, b"/v1/score", 4),
        ("classify", EMBEDDINGS, b"/classify", 4),
        ("generative_scoring", {"any": 1}, b"/generative_scoring", 0),
    ],
)
async def test_the_answer_passes_with_our_name_and_its_usage(
    asked: Asked, kind: str, said: dict[str, Any], path: bytes, tokens: int
) -> None:
    passed, end = await asked(answer(said), kind=kind)
    assert asked.raw.heads[-1].startswith(b"POST " + path + b" HTTP/1.1")
    assert json.loads(passed) == (said | {"model": "ours"} if "model" in said else said)
    assert isinstance(end, Done)
    assert end.usage == Usage(tokens, 0, 0)


@pytest.mark.parametrize("said", [{"object": "list"}, {"data": "none"}, {}])
async def test_an_object_without_embeddings_is_no_answer(asked: Asked, said: dict[str, Any]) -> None:
    passed, end = await asked(answer(said), kind="embeddings")
    assert passed == b""
    assert isinstance(end, Failure)
    assert isinstance(end.error, EngineFailed)


async def test_a_get_has_no_body(asked: Asked) -> None:
    asked.raw.models = answer({"tokenizer_class": "T"})
    passed, end = await asked(kind="tokenizer_info")
    assert asked.raw.heads[-1].startswith(b"GET /tokenizer_info HTTP/1.1")
    assert isinstance(end, Done)
    assert json.loads(passed) == {"tokenizer_class": "T"}


def form(**fields: bytes) -> bytes:
    """As it travels."""
    parts = [
        b'--b\r\nContent-Disposition: form-data; name="%b"\r\n\r\n%b\r\n' % (k.encode(), v) for k, v in fields.items()
    ]
    return read_form(b"multipart/form-data; boundary=b", b"".join(parts) + b"--b--\r\n").travelling


async def test_a_form_goes_on_under_the_upstreams_name(asked: Asked) -> None:
    bodies: list[bytes] = []

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        bodies.append(await read_body(asked.raw.heads[-1], reader))
        writer.write(answer({"text": "hello", "usage": {"type": "duration", "seconds": 3}}))
        await writer.drain()
        return True

    asked.raw.answers = [note]
    heard = Heard()
    asked.member.submit(Work(kind="transcriptions", body=form(file=b"\x00\xff", model=b"whisper")), heard)
    assert isinstance(await heard.end(), Done)
    assert json.loads(b"".join(heard.chunks))["text"] == "hello"
    head = asked.raw.heads[-1].lower()
    assert head.startswith(b"post /v1/audio/transcriptions ")
    assert b"content-type: multipart/form-data; boundary=b\r\n" in head
    assert b"application/json" not in head
    assert bodies == [form(file=b"\x00\xff", model=b"up").partition(b"\n")[2]]


async def test_a_streamed_form_is_passed_on_event_by_event(asked: Asked) -> None:
    events = data({"choices": [{"delta": {"content": "hel"}}]}) + data(
        {"choices": [{"delta": {}, "finish_reason": "stop"}]}
    )
    asked.raw.answers = [answer(events + b"data: [DONE]\n\n", kind="text/event-stream")]
    heard = Heard()
    asked.member.submit(Work(kind="transcriptions", body=form(file=b"x", stream=b"true"), stream=True), heard)
    assert isinstance(await heard.end(), Done)
    assert b"".join(heard.chunks).endswith(b"data: [DONE]\n\n")


async def test_a_form_that_wants_plain_text_is_refused_before_it_is_sent(asked: Asked) -> None:
    heard = Heard()
    sent = len(asked.raw.heads)
    asked.member.submit(Work(kind="transcriptions", body=form(file=b"x", response_format=b"srt")), heard)
    end = await heard.end()
    assert isinstance(end, Failure)
    assert isinstance(end.error, BadRequest)
    assert "`response_format`: expected 'json'" in str(end.error)
    assert len(asked.raw.heads) == sent
