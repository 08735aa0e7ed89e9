"""The fast way: plain chat and completions straight into the engine, token ids in, text deltas out, bytes to the wire.

vLLM's own defaults and bounds, without its request objects. Whatever it would refuse goes the slow way, so that
errors are vLLM's own.
"""

import asyncio
import uuid
from collections.abc import Callable
from functools import partial
from typing import Any

from vllm.inputs import tokens_input
from vllm.sampling_params import RequestOutputKind, SamplingParams

from router.host.base import Answer, engine_failed
from router.host.fields import Body, ChatBody, decode, merge
from router.host.render import Renderer, renderable, size_of
from router.host.sse import DONE, Choice, EventWriter, Head, now, whole
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


class Limits:
    """How many tokens a request may generate, as vLLM reckons it."""

    def __init__(self, context_tokens: int, clamps: bool, default: int | None, override: int | None) -> None:
        """`clamps`: more than the context holds is cut to it; else vLLM refuses such a request."""
        self.context_tokens = context_tokens
        self._clamps = clamps
        self._default = default
        self._override = override

    def max_tokens(self, prompt_tokens: int, asked: int | None) -> int | None:
        """None: let vLLM decide, or refuse."""
        room = self.context_tokens - prompt_tokens
        if room < 1 or (asked is not None and asked < 1):
            return None
        if asked is not None and (asked > self.context_tokens or (asked > room and not self._clamps)):
            return None
        wanted = self._default if asked is None else asked
        return min(limit for limit in (room, wanted, self._override) if limit is not None)


class FastWay:
    """Starts requests and writes their answers. One task until a request is in the engine, none afterwards."""

    def __init__(
        self,
        engine: Any,
        renderer: Renderer,
        slow: Callable[[Submit, Answer], Callable[[], None]],
        loop: asyncio.AbstractEventLoop,
        *,
        name: str,
        limits: Limits,
        defaults: dict[str, Any],
        chat: bool,
        priorities: bool = False,
        traced: bool = False,
        fingerprint: str | None = None,
        cached_details: bool = False,
        force_usage: bool = False,
    ) -> None:
        """`defaults` are the model's own sampling parameters; `chat`: chat may go this way, not only completions."""
        self.engine = engine
        self.slow = slow
        self.loop = loop
        self.name = name
        self.chat = chat
        self._renderer = renderer
        self._limits = limits
        self._defaults = {key: defaults.get(key, value) for key, value in _NEUTRAL.items()}
        self._stop_token_ids = list(defaults.get("stop_token_ids") or [])
        self._priorities = priorities
        self._traced = traced
        self._fingerprint = fingerprint
        self._cached_details = cached_details
        self._force_usage = force_usage
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, submit: Submit, answer: Answer) -> Callable[[], None] | None:
        """Begin to answer; None when the request is not for this way."""
        fields = decode(submit.kind, merge(submit.body, submit.overrides) if submit.overrides else submit.body)
        if fields is None or (fields.priority and not self._priorities):
            return None
        if isinstance(fields, ChatBody) and not (
            self.chat and renderable(fields.messages, fields.chat_template_kwargs)
        ):
            return None
        generation = Generation(self, submit, fields, answer)
        self.spawn(generation.run())
        return generation.abort

    def spawn(self, work: Any) -> None:
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def render(self, fields: Body, continue_text: str) -> list[int]:
        if isinstance(fields, ChatBody):
            size = size_of(fields.messages)
            call = partial(self._renderer.chat, fields.messages, fields.chat_template_kwargs, continue_text)
        elif isinstance(fields.prompt, list):
            return fields.prompt
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
        self, id: str, token_ids: list[int], sampling: SamplingParams, submit: Submit, priority: int
    ) -> Any:
        """Hand a request to the engine: the collector that its outputs are put into."""
        headers = {"traceparent": submit.traceparent} if self._traced and submit.traceparent else None
        return await self.engine.add_request(
            id, tokens_input(token_ids), sampling, trace_headers=headers, priority=priority
        )

    def head(self, submit: Submit) -> Head:
        prefix = "chatcmpl-" if submit.kind == "chat" else "cmpl-"
        return Head(
            id=prefix + (submit.request_id or uuid.uuid4().hex),
            model=self.name,
            kind="chat" if submit.kind == "chat" else "completions",
            created=now(),
            fingerprint=self._fingerprint,
            cached_details=self._cached_details,
        )

    def usage_wanted(self, fields: Body) -> tuple[bool, bool]:
        """Whether to close with usage, and whether to tell it with every chunk."""
        if self._force_usage:
            return True, True
        return fields.include_usage, fields.continuous_usage

    def priority(self, submit: Submit, fields: Body) -> int:
        return (submit.priority or fields.priority) if self._priorities else 0


class Generation:
    """One request in the engine. `put` takes the place of its collector's, so a token costs no task and no wake-up."""

    __slots__ = (
        "_aborted",
        "_answer",
        "_continuous",
        "_fields",
        "_finish_reason",
        "_head",
        "_opened",
        "_prompt_tokens",
        "_stop",
        "_submit",
        "_tokens",
        "_usage_event",
        "_way",
        "_writer",
    )

    def __init__(self, way: FastWay, submit: Submit, fields: Body, answer: Answer) -> None:
        self._way = way
        self._submit = submit
        self._fields = fields
        self._answer = answer
        self._head = way.head(submit)
        self._usage_event, self._continuous = way.usage_wanted(fields)
        self._stop: Callable[[], None] | None = None
        self._writer: EventWriter | None = None
        self._aborted = False
        self._opened = False
        self._finish_reason = "stop"
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
            if fields.stream:
                self._writer = EventWriter(
                    self._head, prompt_tokens=self._prompt_tokens, continuous_usage=self._continuous
                )
            collector = await way.submit(self._head.id, token_ids, sampling, submit, way.priority(submit, fields))
        except Exception as error:  # vLLM says it in its own words, or says that the engine is dead
            if way.engine.errored:
                self._answer.fail(engine_failed(f"{type(error).__name__}: {error}"))
            else:
                self._go_slow()
            return
        self._attach(collector)

    def abort(self) -> None:
        self._aborted = True
        if self._stop is not None:
            self._stop()

    def put(self, output: Any) -> None:
        """Called by the engine's output loop with each new piece of the answer, or with the engine's death."""
        if self._aborted:
            return
        try:
            self._hear(output)
        except Exception as error:  # must not end the loop that every other answer depends on
            self._answer.fail(engine_failed(f"{type(error).__name__}: {error}"))
            self.abort()
            self._way.loop.call_exception_handler({"message": "an output was not understood", "exception": error})

    def _attach(self, collector: Any) -> None:
        """Listen in the collector's place, starting with what it has already."""
        engine, id = self._way.engine, collector.request_id
        self._stop = lambda: self._way.spawn(engine.abort(id, internal=True))
        early, collector.output = collector.output, None
        collector.put = self.put
        if self._aborted:
            self._stop()
        elif early is not None:
            self.put(early)

    def _hear(self, output: Any) -> None:
        if isinstance(output, Exception):
            self._answer.fail(engine_failed(f"{type(output).__name__}: {output}"))
            return
        for completion in output.outputs:
            if completion.finish_reason == "error":
                self._answer.fail(engine_failed("the engine failed while it generated this answer"))
                self.abort()
                return
        if self._writer is not None:
            self._stream(self._writer, output)
        elif output.finished:
            self._answer_whole(output)

    def _stream(self, writer: EventWriter, output: Any) -> None:
        events = []
        if not self._opened:
            self._opened = True
            events = [writer.role(index) for index in range(self._fields.n or 1)]
        for completion in output.outputs:
            index, text, reason = completion.index, completion.text, completion.finish_reason
            tokens = self._tokens[index] = self._tokens.get(index, 0) + len(completion.token_ids)
            if reason is not None:
                self._finish_reason = reason
                events.append(writer.finish(index, text, tokens, reason, completion.stop_reason))
            elif text or self._continuous:
                events.append(writer.text(index, text, tokens))
        if output.finished:
            self._close(writer, output, events)
        elif events:
            self._answer.chunk(events[0] if len(events) == 1 else b"".join(events))

    def _close(self, writer: EventWriter, output: Any, events: list[bytes]) -> None:
        usage = Usage(self._prompt_tokens, sum(self._tokens.values()), output.num_cached_tokens or 0)
        if self._usage_event:
            events.append(writer.usage(usage))
        events.append(DONE)
        self._answer.chunk(b"".join(events))
        self._answer.done(usage, self._finish_reason)

    def _answer_whole(self, output: Any) -> None:
        choices = [Choice(c.index, c.text, c.finish_reason, c.stop_reason) for c in output.outputs]
        tokens = sum(len(completion.token_ids) for completion in output.outputs)
        usage = Usage(self._prompt_tokens, tokens, output.num_cached_tokens or 0)
        self._answer.chunk(whole(self._head, choices, usage))
        self._answer.done(usage, choices[0].finish_reason or "stop")

    def _go_slow(self) -> None:
        if not self._aborted:
            self._stop = self._way.slow(self._submit, self._answer)
