"""How one setting of one policy answers a block of questions: what it asks of which model, and what that took."""

import json
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import cpu
import launch

from router.learn.bench.grade import Asked, Graders
from router.learn.bench.workload import Grader, Item


class Question(NamedTuple):
    id: str
    prompt: str
    expected: str
    grader: Grader
    max_tokens: int

    @classmethod
    def of(cls, item: Item) -> "Question":
        """Raises SystemExit where it cannot be graded."""
        if item.grader is None:
            raise SystemExit(f"--workload: question {item.id}: expected a grader and an expected answer")
        return cls(item.id, item.prompt, item.expected, item.grader, item.max_tokens or 64)


class Reply(NamedTuple):
    text: str
    finish: str
    tokens: dict[str, int]  #: completion tokens by model, of all who wrote
    logprobs: tuple[float, ...] = ()


class Turn(NamedTuple):
    """One block, answered."""

    scores: list[float]
    engine_s: float
    tokens: dict[str, int]


class Asker:
    def __init__(
        self, server: launch.Server, names: Sequence[str], *, streams: int,
        set_price: Callable[[launch.Server, float], None],
    ) -> None:  # fmt: skip
        """`names`: the pool's members, the largest last."""
        self._server, self._names, self._streams = server, tuple(names), streams
        self._large = self._names[-1]
        self._set_price, self._price = set_price, -1.0
        self._drafts: dict[tuple[str, str], Reply] = {}  #: by member and question
        self._graders = Graders()

    def draft(self, questions: Sequence[Question]) -> None:
        """Log-probabilities of the smaller models' answers, which the threshold cascade goes by."""
        for name in self._names[:-1]:
            with ThreadPoolExecutor(self._streams) as threads:
                replies = list(threads.map(lambda one, name=name: self._ask(name, one, logprobs=True), questions))
            self._drafts |= {(name, one.id): reply for one, reply in zip(questions, replies, strict=True)}

    def turn(self, policy: str, writer: str, parameter: float, block: Sequence[Question]) -> Turn:
        """`writer`: of the draft, or of all; empty: Headgate chooses."""
        answer = self._policy(policy, writer, parameter)
        before = cpu.tree_seconds(self._server.pid)
        with ThreadPoolExecutor(self._streams) as threads:
            replies = list(threads.map(answer, block))
        engine_s = cpu.tree_seconds(self._server.pid).since(before).engine
        asked = [
            (one.grader, Asked(id=one.id, prompt=one.prompt, expected=one.expected, answer=reply.text))
            for one, reply in zip(block, replies, strict=True)
        ]
        scores = [grade.score or 0.0 for grade in self._graders.grade(asked)]
        tokens = {name: sum(reply.tokens.get(name, 0) for reply in replies) for name in self._names}
        large = tokens.pop(self._large)
        return Turn(scores, engine_s, {"small": sum(tokens.values()), "large": large})

    def _policy(self, policy: str, writer: str, parameter: float) -> Callable[[Question], Reply]:
        if policy == "alone":
            return lambda one: self._ask(writer, one)
        if policy in ("least", "mean"):
            bound = self._bound(policy, writer, parameter)
            return lambda one: self._cascade(one, policy, writer, bound)
        if policy == "length":
            return lambda one: self._by_length(one, writer, int(parameter))
        if parameter != self._price:
            self._set_price(self._server, parameter)
            self._price = parameter
        return lambda one: self._ask("auto", one, choice=policy)

    def _bound(self, policy: str, writer: str, share: float) -> float:
        """So that `share` of the drafts lie below it."""
        values = sorted(_statistic(policy, draft) for (name, _), draft in self._drafts.items() if name == writer)
        return values[min(len(values) - 1, round(share * len(values)))]

    def _cascade(self, one: Question, policy: str, writer: str, bound: float) -> Reply:
        draft = self._ask(writer, one)
        if _statistic(policy, self._drafts[writer, one.id]) >= bound:
            return draft
        second = self._ask(self._large, one)
        return second._replace(tokens={**draft.tokens, **second.tokens})

    def _by_length(self, one: Question, writer: str, tokens: int) -> Reply:
        """The large model goes on with what the writer has written."""
        draft = self._ask(writer, one._replace(max_tokens=min(tokens, one.max_tokens)))
        if draft.finish != "length" or tokens >= one.max_tokens:
            return draft
        rest = one._replace(max_tokens=one.max_tokens - tokens)
        second = self._ask(self._large, rest, begun=draft.text)
        return second._replace(text=draft.text + second.text, tokens={**draft.tokens, **second.tokens})

    def _ask(self, model: str, one: Question, *, choice: str = "", begun: str = "", logprobs: bool = False) -> Reply:
        messages = [{"role": "user", "content": one.prompt}]
        body: dict[str, Any] = {"model": model, "max_tokens": one.max_tokens, "temperature": 0.0}
        if begun:
            messages.append({"role": "assistant", "content": begun})
            body |= {"continue_final_message": True, "add_generation_prompt": False}
        if logprobs:
            body["logprobs"] = True
        headers = {"content-type": "application/json", **({"x-headgate-choice": choice} if choice else {})}
        data = json.dumps({**body, "messages": messages}).encode()
        request = urllib.request.Request(f"{self._server.url}/v1/chat/completions", data, headers)
        with urllib.request.urlopen(request, timeout=300) as answer:
            told = json.load(answer)
            wrote = answer.headers["x-headgate-model"]
        (first,) = told["choices"]
        tokens = told["usage"].get("headgate") or {wrote: told["usage"]["completion_tokens"]}
        content = (first.get("logprobs") or {}).get("content") or ()
        return Reply(first["message"]["content"] or "", first["finish_reason"], tokens,
                     tuple(token["logprob"] for token in content))  # fmt: skip


def _statistic(policy: str, draft: Reply) -> float:
    if not draft.logprobs:
        return 0.0
    return min(draft.logprobs) if policy == "least" else sum(draft.logprobs) / len(draft.logprobs)
