"""The fast way: plain chat and completion requests go into the engine as token ids; text deltas come back as SSE bytes.

Applies vLLM's defaults and bounds without building its request objects. A request that vLLM would refuse takes the slow
way, so that the error is vLLM's own.
"""

import asyncio
import itertools
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind, SamplingParams

from router.host.adapter.outputs import LeanOutputs
from router.host.base import AnswerSink, engine_failed, too_long
from router.host.fields import Body, ChatBody, decode
from router.host.limits import TokenLimits, TooLong
from router.host.render import Renderer, renderable, size_of
from router.host.sse import DONE, Cached, Choice, EventWriter, Head, Shape, now, whole
from router.ipc.messages import Submit
from router.types import Usage

#: Longer conversations are rendered in a thread, so that other streams do not wait for them.
_INLINE_CHARACTERS = 16_000
#: OpenAI's defaults where neither the request nor the model says otherwise.
_NEUTRAL = {
    "repetition_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": 0,
    "min_p": 0.0,
}


#: index, new text, new tokens, finish reason, stop reason
Piece: TypeAlias = tuple[int, str, int, str | None, int | str | None]


class FastWay:
    """Starts requests and writes their answers. One task until a request is in the engine, none afterwards."""

    def __init__(
        self,
        engine: Any,
        renderer: Renderer,
        slow: Callable[[Submit, AnswerSink], Callable[[], None]],
        loop: asyncio.AbstractEventLoop,
        *,
        name: str,
        limits: TokenLimits,
        defaults: dict[str, Any],
        chat: bool,
        outputs: LeanOutputs | None = None,
        priorities: bool = False,
        traced: bool = False,
        fingerprint: str | None = None,
        cached_details: bool = False,
        force_usage: bool = False,
        shapes: Mapping[str, Shape],
        adapter: Callable[[str], Any] = lambda name: None,
    ) -> None:
        """`defaults` are the model's own sampling parameters; `chat`: chat may go this way, not only completions.
        `adapter` gives vLLM's description of an adapter by its name, None where there is none.
        `shapes`: by kind, what vLLM's answers have beside."""
        self.engine = engine
        self.slow = slow
        self.loop = loop
        self.name = name
        self.chat = chat
        self.outputs = outputs
        self._renderer = renderer
        self._limits = limits
        self._defaults = {key: defaults.get(key, value) for key, value in _NEUTRAL.items()}
        self._stop_token_ids = list(defaults.get("stop_token_ids") or [])
        self._priorities = priorities
        self._traced = traced
        self._fingerprint = fingerprint
        self._cached_details = cached_details
        self._force_usage = force_usage
        self._shapes = shapes
        self._adapter = adapter
        self._run = secrets.token_hex(10)
        self._count = itertools.count(1)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, submit: Submit, answer: AnswerSink) -> Callable[[], None] | None:
        """Begin to answer; None when the request is not for this way."""
        adapter = self._adapter(submit.adapter) if submit.adapter else None
        if submit.adapter and adapter is None:
            return None
        fields = decode(submit.kind, submit.body)
        if fields is None or (fields.priority and not self._priorities):
            return None
        if isinstance(fields, ChatBody) and not (
            self.chat and renderable(fields.messages, fields.chat_template_kwargs)
        ):
            return None
        generation = Generation(self, submit, fields, answer, adapter)
        self.spawn(generation.run())
        return generation.abort

    def spawn(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def abort(self, request_id: str) -> None:
        """Stop generating `request_id` (the engine's own id)."""
        if self.outputs is not None:
            self.outputs.forget(request_id)
        self.spawn(self.engine.abort(request_id, internal=True))

    async def render(self, fields: Body, continue_text: str) -> list[int]:
        if isinstance(fields, ChatBody):
            size = size_of(fields.messages)
            call = partial(self._renderer.chat, fields.messages, fields.chat_template_kwargs, continue_text)
        elif isinstance(fields.prompt, list):
            return self._renderer.tokens(fields.prompt, continue_text)
        else:
            size = len(fields.prompt)
            call = partial(self._renderer.text, fields.prompt, continue_text)
        if size + len(continue_text) <= _INLINE_CHARACTERS:
            return call()
        return await self.loop.run_in_executor(None, call)

    def sampling(self, fields: Body, prompt_tokens: int) -> SamplingParams | None:
        """As vLLM's `to_sampling_params`. None: vLLM is to decide."""
        max_tokens = self._limits.max_tokens(prompt_tokens, fields.max_output_tokens)
        if max_tokens is None:
            return None
        chosen = {}
        for key, default in self._defaults.items():
            value = getattr(fields, key)
            chosen[key] = default if value is None else value
        stop_token_ids = fields.stop_token_ids
        if self._stop_token_ids:
            stop_token_ids = list(dict.fromkeys([*(stop_token_ids or []), *self._stop_token_ids]))
        return SamplingParams.from_optional(
            n=fields.n,
            **chosen,
            seed=fields.seed,
            stop=fields.stop,
            stop_token_ids=stop_token_ids,
            ignore_eos=fields.ignore_eos,
            max_tokens=max_tokens,
            min_tokens=fields.min_tokens,
            skip_special_tokens=fields.skip_special_tokens,
            spaces_between_special_tokens=fields.spaces_between_special_tokens,
            include_stop_str_in_output=fields.include_stop_str_in_output,
            output_kind=RequestOutputKind.DELTA if fields.stream else RequestOutputKind.FINAL_ONLY,
            logit_bias=fields.logit_bias,
            skip_clone=True,
        )

    async def submit(
        self, id: str, token_ids: list[int], sampling: SamplingParams, submit: Submit, priority: int, adapter: Any
    ) -> Any:
        """Hand a request to the engine: the collector that its outputs are put into. `adapter`: vLLM's, or None."""
        headers = {"traceparent": submit.traceparent} if self._traced and submit.traceparent else None
        return await self.engine.add_request(
            id, tokens_input(token_ids), sampling, lora_request=adapter, trace_headers=headers, priority=priority
        )

    def head(self, submit: Submit) -> Head:
        prefix = "chatcmpl-" if submit.kind == "chat" else "cmpl-"
        return Head(
            id=prefix + (submit.request_id or f"{self._run}{next(self._count):012x}"),
            model=submit.adapter or self.name,
            kind="chat" if submit.kind == "chat" else "completions",
            created=now(),
            fingerprint=self._fingerprint,
            cached_details=self._cached_details,
            shape=self._shapes[submit.kind],
        )

    def usage_wanted(self, fields: Body) -> tuple[bool, bool]:
        """Whether to close with usage, and whether to tell it with every chunk."""
        if self._force_usage:
            return True, True
        return fields.include_usage, fields.continuous_usage

    def priority(self, submit: Submit, fields: Body) -> int:
        return (submit.priority or fields.priority) if self._priorities else 0


class Generation:
    """One request in the engine. It hears outputs from where they arise, so a token costs no task and no wake-up:
    of one choice through `heard`, else through `put`, in the place of its collector's.
    """

    __slots__ = (
        "_aborted",
        "_adapter",
        "_answer",
        "_continuous",
        "_fields",
        "_head",
        "_opened",
        "_prompt_tokens",
        "_stop",
        "_submit",
        "_tokens",
        "_usage_event",
        "_way",
        "_writer",
        "whole",
    )

    def __init__(self, way: FastWay, submit: Submit, fields: Body, answer: AnswerSink, adapter: Any = None) -> None:
        self._way = way
        self._adapter = adapter
        self._submit = submit
        self._fields = fields
        self._answer = answer
        self._head = way.head(submit)
        self._usage_event, self._continuous = way.usage_wanted(fields)
        self.whole = not fields.stream
        self._stop: Callable[[], None] | None = None
        self._writer: EventWriter | None = None
        self._aborted = False
        self._opened = False
        self._prompt_tokens = 0
        self._tokens: dict[int, int] = {}

    async def run(self) -> None:
        """Into the engine, or the slow way where vLLM would refuse."""
        way, submit, fields = self._way, self._submit, self._fields
        try:
            token_ids = await way.render(fields, submit.continue_text)
            sampling = way.sampling(fields, len(token_ids))
            if sampling is None:
                self._go_slow()
                return
            self._prompt_tokens = len(token_ids)
            if not self.whole:
                self._writer = EventWriter(
                    self._head,
                    prompt_tokens=self._prompt_tokens,
                    closing_usage=self._usage_event,
                    continuous_usage=self._continuous,
                )
            priority = way.priority(submit, fields)
            collector = await way.submit(self._head.id, token_ids, sampling, submit, priority, self._adapter)
        except TooLong as error:
            self._answer.fail(too_long(error))
            return
        except Exception as error:  # vLLM says it in its own words, or says that the engine is dead
            if way.engine.errored:
                self._answer.fail(engine_failed(f"{type(error).__name__}: {error}"))
            else:
                self._go_slow()
            return
        try:
            self._attach(collector)
        except Exception as error:
            self.broken(error)

    def abort(self) -> None:
        self._aborted = True
        if self._stop is not None:
            self._stop()

    # what the engine calls

    def begun(self) -> None:
        self._opened = True
        self._answer.begun()

    def heard(
        self, text: str, tokens: int, finish_reason: str | None, stop_reason: int | str | None, cached: Cached
    ) -> None:
        """New text of the only choice."""
        if self._aborted:
            return
        try:
            if finish_reason is None and self._opened:  # a token in mid-stream: most of all that happens here
                assert self._writer is not None
                self._tokens[0] = total = self._tokens[0] + tokens
                if text or self._continuous:
                    self._answer.chunk(self._writer.text(0, text, total))
                return
            self._hear([(0, text, tokens, finish_reason, stop_reason)], finish_reason is not None, cached)
        except Exception as error:
            self.broken(error)

    def put(self, output: Any) -> None:
        """A piece of the answer as vLLM's `RequestOutput`, or the engine's death."""
        if self._aborted:
            return
        if isinstance(output, Exception):
            self._answer.fail(engine_failed(f"{type(output).__name__}: {output}"))
            return
        try:
            pieces = [(c.index, c.text, len(c.token_ids), c.finish_reason, c.stop_reason) for c in output.outputs]
            created = getattr(output, "num_cache_creation_tokens", 0)  # not before 0.32
            self._hear(pieces, output.finished, Cached(output.num_cached_tokens or 0, created or 0))
        except Exception as error:
            self.broken(error)

    def broken(self, error: Exception) -> None:
        """Our own mistake must not end the loop that every other answer depends on."""
        self._answer.fail(engine_failed(f"{type(error).__name__}: {error}"))
        self.abort()
        self._way.loop.call_exception_handler({"message": "an output was not understood", "exception": error})

    def _attach(self, collector: Any) -> None:
        """Listen in the collector's place, starting with what it has already."""
        way, id = self._way, collector.request_id
        self._stop = partial(way.abort, id)
        early, collector.output = collector.output, None
        collector.put = self.put
        if self._aborted:
            self._stop()
            return
        if way.outputs is not None and (self._fields.n or 1) == 1:
            way.outputs.listen(id, self)
        if early is not None:
            self.put(early)

    def _hear(self, pieces: list[Piece], finished: bool, cached: Cached) -> None:
        if any(reason == "error" for _, _, _, reason, _ in pieces):
            self._answer.fail(engine_failed("the engine failed while it generated this answer"))
            self.abort()
        elif self._writer is not None:
            self._stream(self._writer, pieces, finished, cached)
        elif finished:
            self._answer_whole(pieces, cached)

    def _stream(self, writer: EventWriter, pieces: list[Piece], finished: bool, cached: Cached) -> None:
        events = []
        if not self._opened:
            if not finished and not any(count for _, _, count, _, _ in pieces):
                return  # a part of the prompt was read; nothing is sent before the engine has made a token
            self._opened = True
            events = [writer.role(index) for index in range(self._fields.n or 1)]
        for index, text, count, reason, stop_reason in pieces:
            tokens = self._tokens[index] = self._tokens.get(index, 0) + count
            if reason is not None:
                events.append(writer.finish(index, text, tokens, reason, stop_reason))
            elif text or self._continuous:
                events.append(writer.text(index, text, tokens))
        if finished:
            usage = Usage(self._prompt_tokens, sum(self._tokens.values()), cached.read)
            if self._usage_event:
                events.append(writer.usage(usage, cached.created))
            events.append(DONE)
            self._answer.chunk(b"".join(events))
            self._answer.done(usage, pieces[-1][3] or "stop")
        elif events:
            self._answer.chunk(events[0] if len(events) == 1 else b"".join(events))

    def _answer_whole(self, pieces: list[Piece], cached: Cached) -> None:
        choices = [Choice(index, text, reason, stop_reason) for index, text, _, reason, stop_reason in pieces]
        usage = Usage(self._prompt_tokens, sum(count for _, _, count, _, _ in pieces), cached.read)
        self._answer.chunk(whole(self._head, choices, usage, cached.created))
        if not self._opened:  # several choices: when the first token came was not told
            self._answer.untimed()
        self._answer.done(usage, choices[0].finish_reason or "stop")

    def _go_slow(self) -> None:
        if not self._aborted:
            self._stop = self._way.slow(self._submit, self._answer)
