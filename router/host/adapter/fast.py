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

from msgspec.structs import replace
from vllm.inputs import tokens_input
from vllm.sampling_params import SamplingParams

from router.host.adapter.outputs import LeanOutputs
from router.host.adapter.priming import prime
from router.host.adapter.sampling import Defaults
from router.host.adapter.warming import Warming
from router.host.adapter.watching import begin, free, watched
from router.host.base import AnswerSink, engine_failed, too_long
from router.host.fields import Body, ChatBody, decode
from router.host.limits import TokenLimits, TooLong
from router.host.render import Renderer, renderable, rendered
from router.host.segments import Segment, SegmentWriter, goes_on
from router.host.sse import DONE, NONE_CACHED, Cached, Choice, EventWriter, Head, Shape, now, whole
from router.host.watch.requests import Watch, Watches
from router.ipc.messages import Submit
from router.types import Usage
from router.watched import Figures

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
        `adapter`: vLLM's description of an adapter by its name, or None. `shapes`: by kind, what answers have too."""
        self.engine = engine
        self.slow = slow
        self.loop = loop
        self.name = name
        self.chat = chat
        self.outputs = outputs
        self.renderer = renderer
        self.limits = limits
        self.warming: set[Warming] = set()
        self.watches: Watches | None = None  #: where this engine watches answers
        self._defaults = Defaults(defaults)
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
        generation: Generation | Warming
        if submit.warm:
            generation = Warming(self, submit, fields, answer, adapter)
        elif goes_on(submit) and (fields.n or 1) != 1:
            return None
        else:
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

    def sampling(self, fields: Body, prompt_tokens: int, spent: int, watch: Watch | None) -> SamplingParams | None:
        """None: vLLM is to decide. `spent`: tokens of the answer that other engines made."""
        asked = fields.max_output_tokens
        left = self.limits.left(prompt_tokens, asked, spent) if spent else self.limits.max_tokens(prompt_tokens, asked)
        return None if left is None else self._defaults.sampling(fields, left, spent, watch)

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
            model=self.model_of(submit),
            kind="chat" if submit.kind == "chat" else "completions",
            created=now(),
            fingerprint=self._fingerprint,
            cached_details=self._cached_details,
            shape=self._shapes[submit.kind],
        )

    def model_of(self, submit: Submit) -> str:
        return submit.adapter or self.name

    def usage_wanted(self, fields: Body) -> tuple[bool, bool]:
        """Whether to close with usage, and whether to tell it with every chunk."""
        return (True, True) if self._force_usage else (fields.include_usage, fields.continuous_usage)

    def priority(self, submit: Submit, fields: Body) -> int:
        return (submit.priority or fields.priority) if self._priorities else 0


class Generation:
    """One request in the engine. It hears outputs from where they arise, so a token costs no task and no wake-up:
    of one choice through `heard`, else through `put`, in the place of its collector's."""

    __slots__ = (
        "_aborted",
        "_adapter",
        "_answer",
        "_continuous",
        "_fields",
        "_head",
        "_last",
        "_opened",
        "_prompt_alone",
        "_prompt_tokens",
        "_segment",
        "_stop",
        "_submit",
        "_tokens",
        "_usage_event",
        "_watch",
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
        self._segment = segment = Segment.of(submit)
        self._head = way.head(submit) if segment is None else segment.head(way.head(submit))
        self._usage_event, self._continuous = way.usage_wanted(fields)
        self.whole = not fields.stream
        self._stop: Callable[[], None] | None = None
        self._writer: EventWriter | None = None
        self._watch: Watch | None = None
        self._aborted = False
        self._opened = False
        self._last: tuple[str, int, Cached] | None = None  #: the end, as the engine told it: text, tokens
        self._prompt_tokens = self._prompt_alone = 0  #: as read, and without what was answered before
        self._tokens: dict[int, int] = {}

    async def run(self) -> None:
        """Into the engine, or the slow way where vLLM would refuse."""
        way, submit, fields, segment = self._way, self._submit, self._fields, self._segment
        spent = 0 if segment is None else segment.before.completion_tokens
        try:
            token_ids, self._prompt_alone = await rendered(way.renderer, fields, submit, way.loop)
            self._prompt_tokens = len(token_ids)
            if not self.whole:
                self._writer = self._new_writer()
            if spent and not way.limits.left(len(token_ids), fields.max_output_tokens, spent):
                self._end_at_once()
                return
            watch = self._watch = begin(way.watches, submit, fields, spent)
            self._answer = watched(self._answer, watch)
            sampling = way.sampling(fields, len(token_ids), spent, watch)
            if sampling is None:
                self._go_slow()
                return
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

    def _new_writer(self) -> EventWriter:
        closing, continuous, segment = self._usage_event, self._continuous, self._segment
        if segment is None:
            prompt = self._prompt_tokens
            return EventWriter(self._head, prompt_tokens=prompt, closing_usage=closing, continuous_usage=continuous)
        return SegmentWriter(
            self._head,
            segment,
            model=self._way.model_of(self._submit),
            prompt_tokens=self._prompt_alone,
            closing_usage=closing,
            continuous_usage=continuous,
        )

    def _end_at_once(self) -> None:
        """What came before is all that was asked for: nothing is read."""
        assert self._segment is not None
        self._prompt_tokens = 0
        text = self._segment.text if self.whole else self._segment.unsent
        self._hear([(0, text, 0, "length", None)], True, NONE_CACHED)

    def abort(self) -> None:
        self._aborted = True
        free(self._watch)
        if self._stop is not None:
            self._stop()

    def handed_on(self, why: str, figures: Figures | None, first_logits: bytes, look: str = "") -> None:
        """End this answer, of which another engine is to make the rest: at the end that the engine just told, or, where
        it told none, behind the text heard so far. Of one that is watched. `look`: see `Continued`."""
        segment, writer = self._segment, self._writer
        assert segment is not None
        text, tokens, cached = self._last or ("", 0, NONE_CACHED)
        own = Usage(self._prompt_tokens, self._tokens.get(0, 0) + tokens, cached.read)
        sent = 0
        if isinstance(writer, SegmentWriter):
            text, sent = writer.sent + text, len(writer.sent)
        handed = segment.handed_on(
            self._head,
            self._way.model_of(self._submit),
            own,
            self._prompt_alone,
            opened=writer is not None and self._opened,
            text=text,
            sent=sent,
            look=look,
        )
        self._answer.handoff(replace(handed, why=why, figures=figures, first_logits=first_logits))
        if self._last is None:
            self.abort()

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
            self.abort()
            return
        if self._segment is not None and self._segment.text:
            prime(way.engine, id, self._segment, self.whole)
        if way.outputs is not None and (self._fields.n or 1) == 1:
            way.outputs.listen(id, self)
        if early is not None:
            self.put(early)

    def _hear(self, pieces: list[Piece], finished: bool, cached: Cached) -> None:
        if finished:
            _, text, tokens, reason, stop = pieces[-1]
            self._last = text, tokens - isinstance(stop, int), cached  # a stop token is no part of the text
            if self._watch is not None and self._watch.stopped(reason, stop, total := self._tokens.get(0, 0) + tokens):
                self._last = text, tokens - 1, cached
                self.handed_on(**self._watch.told(total))
                return
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
        usage = told = Usage(self._prompt_tokens, sum(count for _, _, count, _, _ in pieces), cached.read)
        wrote = b""
        if (segment := self._segment) is not None:
            told = segment.usage(usage, self._prompt_alone)
            wrote = segment.wrote(self._way.model_of(self._submit), usage.completion_tokens)
        self._answer.chunk(whole(self._head, choices, told, cached.created, wrote))
        if not self._opened:  # several choices: when the first token came was not told
            self._answer.untimed()
        self._answer.done(usage, choices[0].finish_reason or "stop")

    def _go_slow(self) -> None:
        free(self._watch, "it takes the slow way")
        if not self._aborted:
            self._stop = self._way.slow(self._submit, self._answer)
