"""Reads a prompt into the prefix cache and answers nothing: an answer of another engine may soon be continued here."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from vllm.sampling_params import RequestOutputKind, SamplingParams

from router.host.base import AnswerSink, ErrorAnswer, engine_failed, failure, too_long
from router.host.fields import Body
from router.host.limits import TokenLimits, TooLong
from router.host.render import Renderer, rendered
from router.host.sse import Head
from router.ipc.messages import Submit
from router.types import Usage

#: Of one engine at once: a hint must not keep answers waiting.
MOST_WARMING = 16
_ENOUGH = failure(
    429,
    f"this engine reads {MOST_WARMING} prompts beforehand, as many as it does at once",
    "rate_limit_error",
    code="warm_limit",
)


class Way(Protocol):
    """What is needed of the fast way."""

    engine: Any
    renderer: Renderer
    limits: TokenLimits
    loop: asyncio.AbstractEventLoop
    warming: "set[Warming]"

    def head(self, submit: Submit) -> Head: ...

    def priority(self, submit: Submit, fields: Body) -> int: ...

    async def submit(
        self, id: str, token_ids: list[int], sampling: SamplingParams, submit: Submit, priority: int, adapter: Any
    ) -> Any: ...

    def abort(self, request_id: str) -> None: ...


class Warming:
    """One prompt, read with one token, which is dropped."""

    def __init__(self, way: Way, submit: Submit, fields: Body, answer: AnswerSink, adapter: Any) -> None:
        self._way = way
        self._submit = submit
        self._fields = fields
        self._answer = answer
        self._adapter = adapter
        self._stop: Callable[[], None] | None = None
        self._aborted = False
        self._prompt_tokens = 0

    async def run(self) -> None:
        way = self._way
        if len(way.warming) >= MOST_WARMING:
            self._answer.fail(_ENOUGH)
            return
        way.warming.add(self)
        try:
            collector = await self._submitted()
        except TooLong as error:
            self._fail(too_long(error))
            return
        except Exception as error:
            said = f"{type(error).__name__}: {error}"
            dead = way.engine.errored
            self._fail(engine_failed(said) if dead else failure(400, said, "invalid_request_error", code="not_warmed"))
            return
        self._stop = lambda: way.abort(collector.request_id)
        early, collector.output = collector.output, None
        collector.put = self.put
        if self._aborted:
            self.abort()
        elif early is not None:
            self.put(early)

    def abort(self) -> None:
        self._aborted = True
        self._way.warming.discard(self)
        if self._stop is not None:
            self._stop()

    def put(self, output: Any) -> None:
        """vLLM's only output of it, or the engine's death."""
        if self._aborted:
            return
        if isinstance(output, Exception):
            self._fail(engine_failed(f"{type(output).__name__}: {output}"))
        elif any(choice.finish_reason == "error" for choice in output.outputs):
            self._fail(engine_failed("the engine failed while it read this prompt"))
        elif output.finished:
            self._way.warming.discard(self)
            self._answer.done(Usage(self._prompt_tokens, 0, output.num_cached_tokens or 0), "length")

    async def _submitted(self) -> Any:
        way, submit = self._way, self._submit
        token_ids, _ = await rendered(way.renderer, self._fields, submit, way.loop)
        self._prompt_tokens = len(token_ids)
        if not way.limits.left(len(token_ids), 1, 0):
            raise TooLong(
                f"{len(token_ids)} tokens leave no room in this model's context of {way.limits.context_tokens}"
            )
        sampling = SamplingParams(
            max_tokens=1, temperature=0.0, detokenize=False, output_kind=RequestOutputKind.FINAL_ONLY, skip_clone=True
        )
        priority = way.priority(submit, self._fields)
        return await way.submit(way.head(submit).id, token_ids, sampling, submit, priority, self._adapter)

    def _fail(self, why: ErrorAnswer) -> None:
        self._way.warming.discard(self)
        self._answer.fail(why)
