"""vLLM's store of Responses, which it keeps where `VLLM_ENABLE_RESPONSES_API_STORE` is set: what becomes of an answer
that is made in the background, and bounds that vLLM's own store does not have."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from router.types import Usage

#: Answers that are kept, and of those that were streamed in the background the events; over it the oldest are dropped.
MOST_ANSWERS = 10_000
MOST_STREAMS = 1_000
_MAPS = ("response_store", "msg_store", "event_store", "background_tasks")
_UNDER_WAY = ("queued", "in_progress")
#: Turns of the loop in which an event that is there reaches its reader.
_TURNS = 4


class StoredAnswers:
    """Those of one engine."""

    def __init__(self, serving: Any) -> None:
        self._serving = serving
        serving.response_store = _Bounded(MOST_ANSWERS)
        serving.msg_store = _Bounded(MOST_ANSWERS)
        serving.event_store = _Bounded(MOST_STREAMS)
        self._stream = serving.responses_background_stream_generator
        serving.responses_background_stream_generator = self._events

    @classmethod
    def of(cls, app: Any) -> "StoredAnswers | None":
        """None where this application has no such store, or one of another shape."""
        serving = getattr(getattr(app, "state", None), "openai_serving_responses", None)
        whole = all(isinstance(getattr(serving, name, None), dict) for name in _MAPS)
        whole = whole and hasattr(serving, "responses_background_stream_generator")
        return cls(serving) if whole else None

    def in_background(self, id: str) -> bool:
        """Whether `id` is made, or was, without anyone who waits for it."""
        response = self._serving.response_store.get(id)
        return response is not None and bool(response.background)

    async def ended(self, id: str) -> None:
        """Return once the answer is no longer made."""
        task = self._serving.background_tasks.get(id)
        if task is not None:
            await asyncio.wait({task})

    async def cancel(self, id: str) -> None:
        """Stop making it. Harmless where it has ended."""
        await self._serving.cancel_responses(id)

    def outcome(self, id: str) -> tuple[str, Usage]:
        """The API's word for the state of an answer that is no longer made, and its tokens. One that was never
        completed has failed: vLLM would let it be waited for."""
        response = self._serving.response_store.get(id)
        if response is None:
            return "failed", Usage()
        if response.status in _UNDER_WAY:
            response.status = "failed"
        usage = response.usage
        if usage is None:
            return response.status, Usage()
        cached = getattr(usage.input_tokens_details, "cached_tokens", 0) or 0
        return response.status, Usage(usage.input_tokens, usage.output_tokens, cached)

    async def _events(self, response_id: str, starting_after: int | None = None) -> AsyncIterator[Any]:
        """As vLLM's, which waits for ever for the next event of an answer that was cancelled or failed."""
        source = self._stream(response_id, starting_after)
        try:
            while (event := await self._next(source, response_id)) is not None:
                yield event
        finally:
            await source.aclose()

    async def _next(self, source: Any, id: str) -> Any:
        """None at the good end. Raises what the application answers with 409 where no more events will come."""
        coming = asyncio.ensure_future(_first(source))
        try:
            task = self._serving.background_tasks.get(id)
            if task is not None:
                await asyncio.wait({coming, task}, return_when=asyncio.FIRST_COMPLETED)
            for _ in range(_TURNS):  # the answer is over: all of its events are there
                if not coming.done():
                    await asyncio.sleep(0)
            if coming.done():
                return coming.result()
        finally:
            if not coming.done():
                coming.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await coming
        from fastapi import HTTPException

        raise HTTPException(409, f"response {id!r} is {self.outcome(id)[0]}: its stream does not go on")


class _Bounded(dict[str, Any]):
    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        if len(self) > self._most:
            del self[next(iter(self))]


async def _first(source: Any) -> Any:
    return await anext(source, None)
