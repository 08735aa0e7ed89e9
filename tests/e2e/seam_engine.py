"""A scripted engine behind the fast way: what a model says is given as text, vLLM's own classes make it outputs.

No engine runs: requests are held by vLLM's `OutputProcessor`, and `say` plays the engine's core.
"""

import asyncio
import json

from router.host.adapter.fast import FastWay, Generation
from router.host.adapter.outputs import LeanOutputs
from router.host.limits import TokenLimits
from router.host.load import LoadMeter
from router.host.render import Renderer
from router.host.sse import Shape
from router.ipc.messages import Submit
from tests.e2e.core_requests import core_request
from tests.host.vocabularies import tokenizer

#: The reserved token that a watch ends an answer by.
RESERVED = "<|end|>"
PROMPT = "Say it."
STEPS = 1000


def template(conversation, variables):
    return "".join(f"{turn['role']}: {turn['content']}\n" for turn in conversation) + "<s>"


def vllm_tokenizer(kind):
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(tokenizer_object=tokenizer(kind), bos_token="<s>", eos_token="</s>")


class Heard:
    """An answer, remembered."""

    def __init__(self):
        self.data, self.usage, self.reason, self.handed, self.failure = b"", None, None, None, None
        self.ends = 0

    def begun(self): ...

    def untimed(self): ...

    def chunk(self, data):
        assert self.ends == 0
        self.data += data

    def done(self, usage, finish_reason):
        self.usage, self.reason, self.ends = usage, finish_reason, self.ends + 1

    def handoff(self, handed):
        self.handed, self.ends = handed, self.ends + 1

    def fail(self, failure):
        self.failure, self.ends = failure, self.ends + 1


class Engine:
    """One model of a name, of a kind of tokenizer; `lean`: as the host reads outputs, else by vLLM's collectors."""

    errored = None

    def __init__(self, kind, name, lean=True, context=4000):
        from vllm.v1.engine.output_processor import OutputProcessor

        self.tokenizer = tokenizer(kind)
        self.output_processor = OutputProcessor(vllm_tokenizer(kind), log_stats=False)
        self.requests = {}
        self.aborted = []
        self.slow = []
        self.lean = LeanOutputs(self.output_processor, LoadMeter()) if lean else None
        self.way = FastWay(
            self,
            Renderer(template, self.encode),
            lambda submit, answer: self.slow.append(submit),
            asyncio.get_running_loop(),
            name=name,
            limits=TokenLimits(context, True, None, None),
            defaults={},
            chat=True,
            outputs=self.lean,
            shapes={"chat": Shape(), "completions": Shape()},
        )

    def encode(self, text, add_special_tokens):
        return self.tokenizer.encode(text, add_special_tokens=add_special_tokens).ids

    # what the fast way calls of vLLM's engine

    async def add_request(self, id, prompt, sampling, *, lora_request, trace_headers, priority):
        from vllm.v1.engine.output_processor import RequestOutputCollector

        internal = f"{id}-{len(self.requests)}"
        request = core_request(internal, id, prompt["prompt_token_ids"], sampling)
        collector = RequestOutputCollector(sampling.output_kind, internal)
        self.output_processor.add_request(request, None, None, 0, collector)
        self.requests[internal] = request
        return collector

    async def abort(self, request_id, internal):
        self.aborted.append(request_id)
        self.output_processor.abort_requests([request_id], internal=True)

    # what its core does

    @property
    def last(self):
        return next(reversed(self.requests))

    def asked(self):
        return self.requests[self.last]

    def say(self, ids, reason=None, stop=None):
        """A step for each of `ids`; the last one ends the answer for `reason`. The tokens that were read as text."""
        from vllm.v1.engine import EngineCoreOutput, FinishReason

        for place, token in enumerate(ids):
            end = reason is not None and place == len(ids) - 1
            output = EngineCoreOutput(
                request_id=self.last,
                new_token_ids=[token],
                finish_reason=FinishReason[reason.upper()] if end else None,
                stop_reason=stop if end else None,
            )
            process = self.lean or self.output_processor.process_outputs
            if process([output], 1.0, None).reqs_to_abort:
                return place + 1
            if self.last not in self.output_processor.request_states:
                return place + 1
        return len(ids)


def ids_of(engine, text):
    """Of an answer in mid-text: no blank is put before it."""
    return engine.way.renderer._behind(text)


def said(engine, text, reason="stop"):
    """All of an answer, ended as `reason` says: its tokens, with the one that ends it."""
    ids = ids_of(engine, text)
    if reason == "stop":
        ids = [*ids, engine.tokenizer.token_to_id("</s>")]
    return engine.say(ids, reason)


class Stopped(Generation):
    """As its watch ends it: by the reserved token."""

    reserved: int | None = None

    def _stream(self, writer, pieces, finished, cached):
        if not self._handed(pieces):
            super()._stream(writer, pieces, finished, cached)

    def _answer_whole(self, pieces, cached):
        if not self._handed(pieces):
            super()._answer_whole(pieces, cached)

    def _handed(self, pieces):
        if pieces[-1][4] != self.reserved:
            return False
        self.handed_on("doubtful", None, b"")
        return True


def body(kind, **fields):
    asked = {"messages": [{"role": "user", "content": PROMPT}]} if kind == "chat" else {"prompt": PROMPT}
    return json.dumps({"max_tokens": 3000, **asked, **fields}).encode()


async def start(engine, heard, **submit):
    """Until the engine has the request, or it has ended."""
    stop = engine.way.start(Submit(id=1, **submit), heard)
    assert stop is not None
    size = len(engine.requests)
    for _ in range(STEPS):
        if len(engine.requests) > size or heard.ends or engine.slow:
            return stop
        await asyncio.sleep(0)
    raise AssertionError("not submitted")


def stop_by_watch(engine, ids):
    Stopped.reserved = engine.tokenizer.token_to_id(RESERVED)
    return engine.say([*ids, Stopped.reserved], "stop", Stopped.reserved)
