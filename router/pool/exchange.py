"""One request to an upstream, and what comes back: an answer, of which only whole events leave, an error, or neither.

    status 2xx -- first bytes: {  whole answer     asked for a stream: broken
               |               event stream        asked for a whole answer: broken
               +-              page, nothing ...   broken
    400..599   refused                             any other status: broken

What is no answer is found out before anything leaves, so that another member may be tried. Knows no load, no breaker.
"""

import asyncio
import io
import logging
import time
from typing import Protocol

import aiohttp

from router.config import Member
from router.errors import DeadlineExceeded, EngineFailed, RouterError
from router.pool.base import Failure, Work
from router.pool.connection import opening, rest_of, retry_after_s
from router.pool.sse import Passage, with_model
from router.types import API_PATHS, Timings
from router.urls import BaseUrl

log = logging.getLogger("headgate.pool")

_LARGE_BODY_BYTES = 1024 * 1024
_LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
_LARGEST_ERROR_BYTES = 1024 * 1024
#: What may still come after an answer's end mark, for the connection to be used again.
_LARGEST_REST_BYTES = 64 * 1024
_REST_S = 1.0


class Asker(Protocol):
    """Who is told: any number of `pass_on`, then one of the others. Told more than one, it hears the first."""

    def pass_on(self, data: bytes) -> bool:
        """Bytes of the answer; False when nobody wants more of them."""
        ...

    def answered(self, passage: Passage, timings: Timings) -> None: ...

    def refused(self, status: int, body: bytes, retry_after_s: float) -> None:
        """The upstream answered with an error."""
        ...

    def broke(self, why: str) -> None:
        """The upstream failed."""
        ...

    def failed(self, failure: Failure) -> None:
        """It was not the upstream's fault."""
        ...


async def exchange(
    session: aiohttp.ClientSession, url: BaseUrl, model: str, member: Member, work: Work, asker: Asker
) -> None:
    """Ask for `model` and tell `asker`. Raises nothing but a cancellation."""
    begun = time.monotonic()
    try:
        await _exchange(session, url, model, member, work, asker, begun)
    except RouterError as error:
        asker.failed(Failure(error))
    except aiohttp.ConnectionTimeoutError:
        asker.broke(f"it could not be reached within {member.connect_timeout_s:g} s")
    except TimeoutError:
        if work.deadline_s and time.monotonic() - begun >= work.deadline_s:
            # What a client has patience for says nothing of the member.
            asker.failed(Failure(DeadlineExceeded(f"the answer was not complete within {work.deadline_s:g} s")))
        else:
            setting, seconds = _patience(member, work)
            asker.broke(f"it did not answer in time (`{setting}`: {seconds:g} s)")
    except (aiohttp.ClientError, OSError) as error:
        asker.broke(f"{type(error).__name__}: {error}")
    except Exception as error:  # whatever breaks must end this request
        log.exception("a request to %r failed", member.name)
        asker.failed(Failure(EngineFailed(f"model {member.name!r} failed: {type(error).__name__}"), retryable=True))


async def _exchange(
    session: aiohttp.ClientSession,
    url: BaseUrl,
    model: str,
    member: Member,
    work: Work,
    asker: Asker,
    begun: float,
) -> None:
    headers = {"x-request-id": work.request_id} if work.request_id else {}
    if work.traceparent:
        headers["traceparent"] = work.traceparent
    body = with_model(work.body, model)
    async with session.post(
        url.at(API_PATHS[work.kind]),
        # A large body is written in pieces, or it would hold up the event loop.
        data=body if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body),
        headers=headers,
        timeout=_timeout(member, work),
        # A redirect would carry prompt and key to another host.
        allow_redirects=False,
    ) as response:
        status = response.status
        if 200 <= status < 300:
            await _take(response, member, work, asker, begun)
        elif 400 <= status < 600:
            error = await rest_of(response, _LARGEST_ERROR_BYTES)
            asker.refused(status, error, retry_after_s(response))
        else:
            what = "a redirect, which is not followed" if 300 <= status < 400 else "which means nothing"
            asker.broke(f"it answered with status {status}, {what}")


def _patience(member: Member, work: Work) -> tuple[str, float]:
    """The setting that bounds how long to wait, and its seconds."""
    if work.stream:
        return "silence_timeout_s", member.silence_timeout_s
    return "answer_timeout_s", member.answer_timeout_s


def _timeout(member: Member, work: Work) -> aiohttp.ClientTimeout:
    connect_s, (_, seconds) = member.connect_timeout_s, _patience(member, work)
    if work.stream:
        return aiohttp.ClientTimeout(total=work.deadline_s or None, connect=connect_s, sock_read=seconds)
    return aiohttp.ClientTimeout(total=min(work.deadline_s or seconds, seconds), connect=connect_s)


async def _take(response: aiohttp.ClientResponse, member: Member, work: Work, asker: Asker, begun: float) -> None:
    """An answer, which the first bytes of the body must look like. Content types are wrong too often to go by."""
    first = await opening(response)
    if work.stream and first and first[:1] not in b"{[<":
        await _stream(response, first, member, work, asker, begun)
        return
    wanted = "an event stream" if work.stream else "a JSON object"
    if first[:1] != b"{":
        asker.broke(f"its answer is {_kind_of(response, first)}, not {wanted}")
        return
    body = await rest_of(response, _LARGEST_ANSWER_BYTES, first)
    if len(body) > _LARGEST_ANSWER_BYTES:
        asker.broke(f"its answer is larger than {_LARGEST_ANSWER_BYTES} bytes")
        return
    passage = Passage(work.kind, member.name)
    answer = passage.whole(body)
    if passage.finished and work.stream:
        asker.broke(f"its answer is a whole one, not {wanted}")
    elif asker.pass_on(answer):
        asker.answered(passage, Timings(0.0, time.monotonic() - begun))


async def _stream(
    response: aiohttp.ClientResponse, data: bytes, member: Member, work: Work, asker: Asker, begun: float
) -> None:
    """Pass on the events of a body that begins with `data`."""
    passage = Passage(work.kind, member.name)
    first, heard = 0.0, begun
    received = response.content.iter_any()
    while True:
        events = passage.feed(data)
        now = time.monotonic()
        if events:
            heard = now
            first = first or now - begun
            if not asker.pass_on(events):
                return
        elif now - heard > member.silence_timeout_s:
            raise TimeoutError
        if passage.over:
            break
        try:
            data = await anext(received)
        except StopAsyncIteration:
            if not asker.pass_on(passage.end()):
                return
            break
    asker.answered(passage, Timings(first, time.monotonic() - begun))
    if passage.finished:
        await _read_empty(response)


async def _read_empty(response: aiohttp.ClientResponse) -> None:
    """The answer has ended; its last bytes are read so that the connection can be kept."""
    size = 0
    try:
        async with asyncio.timeout(_REST_S):
            async for data in response.content.iter_any():
                size += len(data)
                if size > _LARGEST_REST_BYTES:
                    break
    except TimeoutError:
        pass  # then it is closed


def _kind_of(response: aiohttp.ClientResponse, first: bytes) -> str:
    if not first:
        return f"empty (status {response.status})"
    return "a page" if first[:1] == b"<" else f"of type {response.content_type}"
