"""Reads an upstream's `/v1/models`: whether it is ready, which models it has, and their context lengths."""

import asyncio
from typing import TYPE_CHECKING

import msgspec

from router.dialects.answers import MOST_TOKENS, NULL, UNREADABLE
from router.pool.failure import failure_of, one_line
from router.urls import BaseUrl

if TYPE_CHECKING:
    import aiohttp

_LARGEST_LIST_BYTES = 8 * 1024 * 1024


class _Card(msgspec.Struct):
    id: str
    max_model_len: msgspec.Raw = NULL


class _Cards(msgspec.Struct):
    data: list[_Card]


class Answered(msgspec.Struct, frozen=True):
    """`why` it cannot serve, or empty; `context_tokens` of the models that it lists, 0 where it tells none."""

    why: str = ""
    loading: bool = False
    context_tokens: dict[str, int] = {}


async def ask(session: "aiohttp.ClientSession", url: BaseUrl, timeout_s: float) -> Answered:
    """Ask. Raises nothing."""
    from router.pool.connection import rest_of

    where = url.shown + "/v1/models"
    try:
        async with asyncio.timeout(timeout_s):
            async with session.get(url.at("/v1/models"), allow_redirects=False) as response:
                status = response.status
                body = await rest_of(response, _LARGEST_LIST_BYTES)
    except TimeoutError:
        return Answered(f"{where} does not answer within {timeout_s:g} s")
    except Exception as error:  # no answer, however odd, may end the probing
        return Answered(f"{where} does not answer: {one_line(str(error)) or type(error).__name__}")
    if status in (404, 405):
        return Answered()  # alive, and without a list of models
    if status >= 400:
        message = failure_of(status, body, "", retryable=False).error.message
        return Answered(one_line(message), loading=status == 503)
    if not 200 <= status < 300:
        return Answered(f"{where} answers with status {status}, and redirects are not followed")
    if body.lstrip()[:1] == b"<":
        return Answered(f"{where} answers with a page, not with models")
    return Answered(context_tokens=_cards(body))


def _cards(body: bytes) -> dict[str, int]:
    """Empty for a list of another shape: it answers, and that is what was asked."""
    try:
        return {card.id: _tokens(card.max_model_len) for card in msgspec.json.decode(body, type=_Cards).data}
    except UNREADABLE:
        return {}


def _tokens(json: msgspec.Raw) -> int:
    try:
        count = msgspec.json.decode(json, type=int)
    except UNREADABLE:
        return 0
    return count if 0 < count <= MOST_TOKENS else 0
