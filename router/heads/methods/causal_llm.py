"""Scores a query by a language model's verdict: how sure it is, from 1 to 5, that a small model answers well.

RouteLLM's causal LLM router (Ong et al., 2024) reads P(score >= 4) from five tokens that Llama-3-8B was fine-tuned on.
Here any model of the pool is asked without fine-tuning, and the meaning of its verdicts is fitted per reference model:

    e = sum_s s P(s) / sum_s P(s),  s = 1..5        logit q_m = bias_m + slope_m (e - unasked),  slope_m >= 0

Builds the question and reads the answer; does not send it and knows no pool.

    slope, bias [models] F32        known.key [prompts] U64        known.verdict [prompts] F32
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from router.artefacts.artefact import Artefact
from router.errors import ConfigError
from router.heads.base import Claim, JudgedHead
from router.heads.curves import curves_of
from router.heads.methods.judged import JudgedPlacedHead
from router.heads.placed import PlacedHead
from router.types import Segment

LOWEST, HIGHEST = 1, 5
TEMPLATE = """\
How likely is it that a small language model answers the question below well? \
Answer with one digit, from 1 (hardly) to 5 (surely).

Question:
{query}

Digit:"""
TOP = 20  #: log-probabilities asked for: the most that vLLM and OpenAI give by default

Floats = npt.NDArray[np.float32]


def no_thinking() -> dict[str, Any]:
    """A model that thinks first would say no digit. Servers other than vLLM may refuse this."""
    return {"chat_template_kwargs": {"enable_thinking": False}}


class Question(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the judge is asked: kept in the artefact's options."""

    judge: str = ""  #: the model that was asked in training, by the last part of its name
    template: str = TEMPLATE  #: what comes before `{query}` is the same for all, so that it stays in the prefix cache
    body: dict[str, Any] = msgspec.field(default_factory=no_thinking)  #: more of the request's body
    max_chars: int = 6000  #: of the query; a longer one keeps its first and last half of them
    unasked: float = 3.0  #: the verdict on a query of which none could be had: the mean over the training prompts

    def ask(self, text: str) -> bytes:
        """The JSON of a chat completion."""
        content = self.template.replace("{query}", _cut(text, self.max_chars))
        return msgspec.json.encode(
            {
                "model": self.judge,
                "messages": [{"role": "user", "content": content}],
                "max_tokens": 1,
                "temperature": 0,
                "logprobs": True,
                "top_logprobs": TOP,
                **self.body,
            }
        )


class _Top(msgspec.Struct):
    token: str
    logprob: float


class _Token(msgspec.Struct):
    token: str
    logprob: float
    top_logprobs: list[_Top] = []


class _Logprobs(msgspec.Struct):
    content: list[_Token] | None = None


class _Choice(msgspec.Struct):
    logprobs: _Logprobs | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice]


def verdict(answer: bytes) -> float:
    """The expected score, 1 to 5, over the digits among the first token's likeliest. Raises ValueError where the answer
    has none."""
    try:
        choices = msgspec.json.decode(answer, type=_Answer).choices
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"the judge's answer is not understood: {error}") from error
    logprobs = choices[0].logprobs if choices else None
    if logprobs is None or not logprobs.content:
        raise ValueError("the judge's answer has no log-probabilities")
    first = logprobs.content[0]
    likely = {first.token: first.logprob, **{top.token: top.logprob for top in first.top_logprobs}}
    weight = dict.fromkeys(range(LOWEST, HIGHEST + 1), 0.0)
    for token, logprob in likely.items():
        word = token.strip()
        if word.isascii() and word.isdigit() and int(word) in weight:
            weight[int(word)] += math.exp(min(logprob, 0.0))
    total = sum(weight.values())
    if not total > 0:
        raise ValueError(f"the judge's likeliest tokens hold no score: {first.token!r} and {len(likely) - 1} more")
    return sum(score * w for score, w in weight.items()) / total


def text_of(segments: Sequence[Segment]) -> str:
    """What the judge is shown of a conversation: its texts, one after another."""
    return "\n\n".join([text for text, _ in segments])


def key_of(text: str) -> int:
    """An unsigned 64-bit number by which a judged text is known again."""
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")


class Verdicts:
    """A `JudgedPredictor`. Without an answer it goes by the verdicts that came with the file; of other queries it knows
    the models' means."""

    def __init__(self, artefact: Artefact, question: Question) -> None:
        models = len(artefact.meta.models)
        self._slope = artefact.array("slope", np.float32, (models,))
        self._bias = artefact.array("bias", np.float32, (models,))
        self._question, self._unasked = question, question.unasked
        if not (self._slope >= 0).all():
            raise ConfigError(f"{artefact.path}: slope: expected numbers of 0 or more, got {self._slope.min()}")
        self.known = _known(artefact)

    @property
    def judge(self) -> str:
        return self._question.judge

    def question(self, segments: Sequence[Segment]) -> bytes | None:
        text = text_of(segments)
        return None if key_of(text) in self.known else self._question.ask(text)

    def logits_by(self, segments: Sequence[Segment], answer: bytes) -> Floats:
        return self.by([verdict(answer)])

    def logits(self, queries: Sequence[Sequence[Segment]]) -> Floats:
        known, unasked = self.known, self._unasked
        return self.by([known.get(key_of(text_of(query)), unasked) for query in queries])

    def by(self, verdicts: Sequence[float]) -> Floats:
        """Log odds [verdicts, models]."""
        above = np.asarray(verdicts, np.float32)[:, None] - np.float32(self._unasked)
        return np.asarray(self._bias + above * self._slope, np.float32)

    def tokens(self, segments: Sequence[Segment]) -> int:
        """Four bytes each, as English has them."""
        return sum((len(text.encode("utf-8", "surrogatepass")) + 3) // 4 for text, _ in segments)


def causal_llm(artefact: Artefact, claims: Sequence[Claim]) -> JudgedHead:
    """Raises ConfigError naming the file, the tensor or option, and what was expected."""
    verdicts = Verdicts(artefact, question_of(artefact))
    return JudgedPlacedHead(PlacedHead(artefact.meta, verdicts, claims, curves_of(artefact)), verdicts)


def question_of(artefact: Artefact) -> Question:
    """Raises ConfigError."""
    question = artefact.options_as(Question)
    if "{query}" not in question.template:
        raise ConfigError(f"{artefact.path}: options.template: expected a text with {{query}} in it")
    if not LOWEST <= question.unasked <= HIGHEST:
        raise ConfigError(f"{artefact.path}: options.unasked: expected 1 to 5, got {question.unasked}")
    return question


def _known(artefact: Artefact) -> dict[int, float]:
    if "known.key" not in artefact.arrays and "known.verdict" not in artefact.arrays:
        return {}
    keys = artefact.array("known.key", np.uint64, (None,))
    verdicts = artefact.array("known.verdict", np.float32, keys.shape)
    if not ((verdicts >= LOWEST) & (verdicts <= HIGHEST)).all():
        raise ConfigError(f"{artefact.path}: known.verdict: expected numbers from 1 to 5")
    return dict(zip(keys.tolist(), verdicts.tolist(), strict=True))


def _cut(text: str, limit: int) -> str:
    if len(text) <= limit:
        return text
    tail = limit // 2
    return f"{text[: limit - tail]}\n[...]\n{text[len(text) - tail :]}"
