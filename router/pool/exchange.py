"""Sends one request to an upstream and classifies what comes: an answer, passed on in whole events; an error; neither.

    status 2xx -- first bytes: {  whole answer     asked for a stream: broken
               |               event stream        asked for a whole answer: broken
               +-              page, nothing ...   broken
    400..599   refused                             any other status: broken

A result that is no answer is detected before any byte is passed on, so that another member can be tried. Knows no load
and no breaker.
"""

import asyncio
import io
import logging
import math
import time
from typing import Protocol

import aiohttp

from router.config import Member
from router.dialects.events import UpstreamEvents, as_asked
from router.dialects.forms import read_travelling
from router.errors import BadRequest, DeadlineExceeded, EngineFailed, RouterError
from router.pool.base import Failure, Work
from router.pool.connection import opening, rest_of, retry_after_s
from router.types import API_PATHS, MEMBER_ROUTES, Kind, Timings, body_of
from router.urls import BaseUrl

log = logging.getLogger("headgate.pool")

_LARGE_BODY_BYTES = 1024 * 1024
_LARGEST_ANSWER_BYTES = 32 * 1024 * 1024
_LARGEST_ERROR_BYTES = 1024 * 1024
#: What may still come after an answer's end mark, for the connection to be used again.
_LARGEST_REST_BYTES = 64 * 1024
_REST_S = 1.0


#: Of transcriptions: what is no JSON cannot be told from an upstream's failure.
_TEXT_FORMATS = frozenset({"text", "srt", "vtt"})


class Asker(Protocol):
    """What an exchange calls: any number of `pass_on`, then one of the others. Calls after that are ignored."""

    def pass_on(self, data: bytes) -> bool:
        """Bytes of the answer; False when no more of them are wanted."""
        ...

    def answered(self, events: UpstreamEvents, timings: Timings) -> None: ...

    def refused(self, status: int, body: bytes, retry_after_s: float) -> None:
        """The upstream answered with an error."""
        ...

    def broke(self, why: str) -> None:
        """The upstream failed."""
        ...

    def failed(self, failure: Failure) -> None:
        """It was not the upstream's fault."""
        ...


class UpstreamExchange:
    """`run` asks once and tells `asker`."""

    __slots__ = ("_asker", "_begun", "_member", "_model", "_url", "_work")

    def __init__(self, url: BaseUrl, model: str, member: Member, work: Work, asker: Asker) -> None:
        self._url = url
        self._model = model  # what the upstream calls it
        self._member = member
        self._work = work
        self._asker = asker
        self._begun = time.monotonic()

    async def run(self, session: aiohttp.ClientSession) -> None:
        """Raises nothing but a cancellation."""
        asker, name = self._asker, self._member.name
        try:
            await self._ask(session)
        except RouterError as error:
            asker.failed(Failure(error))
        except aiohttp.ConnectionTimeoutError:
            asker.broke(f"it could not be reached within {self._member.connect_timeout_s:g} s")
        except TimeoutError:
            self._late()
        except (aiohttp.ClientError, OSError) as error:
            asker.broke(f"{type(error).__name__}: {error}")
        except Exception as error:  # whatever breaks must end this request
            log.exception("a request to %r failed", name)
            asker.failed(Failure(EngineFailed(f"model {name!r} failed: {type(error).__name__}"), retryable=True))

    def _late(self) -> None:
        deadline_s = self._work.deadline_s
        if deadline_s and time.monotonic() - self._begun >= deadline_s:
            # What a client has patience for says nothing of the member.
            self._asker.failed(Failure(DeadlineExceeded(f"the answer was not complete within {deadline_s:g} s")))
            return
        self._asker.broke(f"it did not answer in time (`answer_timeout_s`: {self._member.answer_timeout_s:g} s)")

    async def _ask(self, session: aiohttp.ClientSession) -> None:
        work = self._work
        headers = {"x-request-id": work.request_id} if work.request_id else {}
        if work.traceparent:
            headers["traceparent"] = work.traceparent
        body = self._body(headers)
        async with session.request(
            "GET" if body_of(work.kind) == "none" else "POST",
            self._url.at(_path(work.kind)),
            # A large body is written in pieces, or it would hold up the event loop.
            data=body if len(body) < _LARGE_BODY_BYTES else io.BytesIO(body),
            headers=headers,
            timeout=self._timeout(),
            # A redirect would carry prompt and key to another host.
            allow_redirects=False,
        ) as response:
            status = response.status
            if 200 <= status < 300:
                await self._take(response)
            elif 400 <= status < 600:
                error = await rest_of(response, _LARGEST_ERROR_BYTES)
                self._asker.refused(status, error, retry_after_s(response))
            else:
                what = "a redirect, which is not followed" if 300 <= status < 400 else "which means nothing"
                self._asker.broke(f"it answered with status {status}, {what}")

    def _body(self, headers: dict[str, str]) -> bytes:
        """The work's, for the upstream's model; its type in `headers`, where it is no JSON. Raises `BadRequest`."""
        work = self._work
        if body_of(work.kind) == "none":
            return b""
        if body_of(work.kind) == "json":
            return as_asked(work.body, self._model, work.stream)
        form = read_travelling(work.body).naming(self._model)
        if form.format in _TEXT_FORMATS:
            what = f"expected 'json' or 'verbose_json' of a model behind a URL, got {form.format!r}"
            raise BadRequest(f"`response_format`: {what}", param="response_format")
        headers["content-type"] = form.content_type.decode("latin-1")
        return form.body

    def _timeout(self) -> aiohttp.ClientTimeout:
        """A stream has no limit but its deadline: the member gives up those that bring no event."""
        total_s = self._work.deadline_s or math.inf
        if not self._work.stream:
            total_s = min(total_s, self._member.answer_timeout_s)
        return aiohttp.ClientTimeout(
            total=total_s if total_s < math.inf else None, connect=self._member.connect_timeout_s
        )

    async def _take(self, response: aiohttp.ClientResponse) -> None:
        """An answer, which the first bytes of the body must look like. Content types are wrong too often to go by."""
        streamed, asker = self._work.stream, self._asker
        first = await opening(response)
        if streamed and first and first[:1] not in b"{[<":
            await self._stream(response, first)
            return
        wanted = "an event stream" if streamed else "a JSON object"
        if first[:1] != b"{":
            asker.broke(f"its answer is {_kind_of(response, first)}, not {wanted}")
            return
        body = await rest_of(response, _LARGEST_ANSWER_BYTES, first)
        if len(body) > _LARGEST_ANSWER_BYTES:
            # A client's choice: of many alternatives with their probabilities, for example.
            asker.failed(Failure(EngineFailed(f"the answer is larger than {_LARGEST_ANSWER_BYTES} bytes")))
            return
        events = UpstreamEvents(self._work.kind, self._member.name)
        answer = events.whole(body)
        if events.finished and streamed:
            asker.broke(f"its answer is a whole one, not {wanted}")
        elif asker.pass_on(answer):
            asker.answered(events, Timings(0.0, time.monotonic() - self._begun))

    async def _stream(self, response: aiohttp.ClientResponse, data: bytes) -> None:
        """Pass on the events of a body that begins with `data`."""
        events = UpstreamEvents(self._work.kind, self._member.name)
        asker, first_s = self._asker, 0.0
        received = response.content.iter_any()
        while True:
            passed = events.feed(data)
            if passed:
                first_s = first_s or time.monotonic() - self._begun
                if not asker.pass_on(passed):
                    return
            if events.over:
                break
            try:
                data = await anext(received)
            except StopAsyncIteration:
                if not asker.pass_on(events.end()):
                    return
                break
        asker.answered(events, Timings(first_s, time.monotonic() - self._begun))
        if events.finished and not response.content.at_eof():
            await _read_empty(response)


def _path(kind: Kind) -> str:
    """Of several the one below `/v1`, which more servers than vLLM's have."""
    paths = MEMBER_ROUTES[kind].paths if kind in MEMBER_ROUTES else (API_PATHS[kind],)
    return next((path for path in paths if path.startswith("/v1/")), paths[0])


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
