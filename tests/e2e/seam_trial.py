"""Answers of scripted engines, cut at random, and what a client reads of them."""

import json
import random

from router.types import Usage
from router.watched import Continued
from tests.e2e.seam_engine import Engine, Heard, body, ids_of, said, start, stop_by_watch
from tests.host.vocabularies import KINDS, TEXTS


def events(data):
    lines = [line for line in data.decode().split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    assert lines.count("data: [DONE]") == 1
    assert lines[-1] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines[:-1]]


def delta(event):
    (choice,) = event["choices"]
    return choice["delta"].get("content", "") if "delta" in choice else choice["text"]


def read(data, kind, stream):
    """Text, finish reason, stop reason and usage that a client has of an answer."""
    if not stream:
        answer = json.loads(data)
        (choice,) = answer["choices"]
        text = choice["message"]["content"] if kind == "chat" else choice["text"]
        return text, choice["finish_reason"], choice["stop_reason"], answer["usage"]
    found = events(data)
    *told, closing = found
    assert len({(event["id"], event["created"], event["model"]) for event in found}) == 1
    roles = [event for event in told if event["choices"][0].get("delta", {}).get("role")]
    assert [told.index(event) for event in roles] == ([0] if kind == "chat" else [])
    ends = [event["choices"][0] for event in told if event["choices"][0]["finish_reason"] is not None]
    assert len(ends) == 1
    assert told[-1]["choices"][0] is ends[0]
    return "".join(map(delta, told)), ends[0]["finish_reason"], ends[0]["stop_reason"], closing["usage"]


class Trial:
    """One answer, cut at random; drawn from `seed`."""

    def __init__(self, seed):
        rng = self.rng = random.Random(seed)
        self.kind = rng.choice(["chat", "completions"])
        self.stream = rng.random() < 0.6
        self.text = "".join(rng.sample(TEXTS, 2))
        self.start = rng.randrange(60)
        self.text = self.text[self.start : self.start + rng.randrange(30, 160)]
        fields = {"stream": True, "stream_options": {"include_usage": True}} if self.stream else {}
        if self.stream and rng.random() < 0.3:
            fields["stream_options"]["continuous_usage_stats"] = True
        self.stop = ""
        if rng.random() < 0.4:
            at = rng.randrange(len(self.text) - 8)
            self.stop = fields["stop"] = self.text[at : at + rng.randrange(2, 9)]
            fields["include_stop_str_in_output"] = rng.random() < 0.3
        self.includes = bool(fields.get("include_stop_str_in_output"))
        self.body = body(self.kind, **fields)
        self.engines = [
            Engine(rng.choice(KINDS), name, lean=rng.random() < 0.7) for name in ("small", "large", "larger")
        ]
        if rng.random() < 0.7:
            self.engines.pop()
        self.told = rng.random() < 0.3

    @property
    def wanted(self):
        """The text up to the first stop string."""
        if self.stop and self.stop in self.text:
            return self.text[: self.text.index(self.stop) + len(self.stop) * self.includes]
        return self.text

    async def run(self):
        """The client's bytes, and the tokens of each engine."""
        data, wrote = b"", {}
        before, so_far = Continued(told=True) if self.told else None, ""
        for engine in self.engines:
            heard, last = Heard(), engine is self.engines[-1]
            await start(
                engine, heard, kind=self.kind, body=self.body, watch=b"{}", continued=before, continue_text=so_far
            )
            prompt = len(engine.asked().prompt_token_ids)
            rest = ids_of(engine, self.text[len(so_far) :])
            if last:
                made = said(engine, self.text[len(so_far) :])
            else:
                rest = rest[: self.rng.randrange(1, max(2, len(rest) // 2))]
                made = stop_by_watch(engine, rest)
                made -= made == len(rest) + 1
            data, wrote[engine.way.name] = data + heard.data, made
            assert heard.failure is None
            assert heard.ends == 1
            if heard.handed is None:
                assert heard.usage == Usage(prompt, made, 0)
                break
            assert heard.handed.usage == Usage(prompt, made, 0)
            so_far, before = heard.handed.text, heard.handed.continued
            assert self.text.startswith(so_far)
        return data, wrote
