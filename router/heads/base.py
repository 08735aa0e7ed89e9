"""The protocol of a head, and how a member of the pool names the model that it is (`Claim`)."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec
import numpy as np
import numpy.typing as npt

from router.native.spec import TurnWeights
from router.types import Scores, Segment


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What a member says of itself. `name` and `model` are tried when neither `like` nor `strength` is given."""

    name: str
    model: str = ""  #: path or hub id of the weights
    like: str = ""  #: a model of the checkpoint
    strength: float | None = None  #: MMLU-Pro accuracy, 0..1
    size_b: float | None = None  #: billions of parameters, counted; else the names may tell


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a member was put, and why: shown by `headgate validate`."""

    name: str
    by: Literal["like", "strength", "name", "size", "default", "none"]  #: `none`: a pooling model is not scored
    reference: str = ""  #: the checkpoint's model, for `like` and `name`
    strength: float | None = None  #: given, or estimated from the size

    @property
    def guessed(self) -> bool:
        """Whether nobody said which model it is."""
        return self.by in ("size", "default")


class Head(Protocol):
    """Segments to quality per member, in the pool's order. Safe from many threads.

    A head may say `slow = True`: a score takes milliseconds, and the pipeline makes it on another thread. It may name
    `typical` texts whose mean quality orders the members; else its word on the empty text does.
    """

    @property
    def turns(self) -> TurnWeights:
        """How the conversation is to be weighed."""
        ...

    @property
    def placements(self) -> tuple[Placement, ...]: ...

    def score(self, segments: Sequence[Segment]) -> Scores:
        """One query, as `features` weighs its texts."""
        ...

    def score_many(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        """Quality [texts, members]. Row i is what `score(((texts[i], 1.0),))` says."""
        ...


@runtime_checkable
class JudgedHead(Head, Protocol):
    """A head that wants a language model's verdict on a query. Its `score` alone goes by what it knows already."""

    @property
    def judge(self) -> str:
        """The model that it was trained to read, by the last part of its name."""
        ...

    def question(self, segments: Sequence[Segment]) -> bytes | None:
        """The body of a chat completion that asks for the verdict; None where it is known."""
        ...

    def score_by(self, segments: Sequence[Segment], answer: bytes) -> Scores:
        """By the judge's answer. Raises ValueError where that holds no verdict."""
        ...


class Predictor(Protocol):
    """What a method says of the models that it was trained on; `placed.PlacedHead` makes a head of it.
    Safe from many threads. It may say `slow = True` and name `typical` texts, as a head may."""

    def logits(self, queries: Sequence[Sequence[Segment]]) -> npt.NDArray[np.float32]:
        """[queries, reference models]: the log odds of an acceptable answer."""
        ...

    def tokens(self, segments: Sequence[Segment]) -> int:
        """The query's size, as an estimate in tokens: what cost and context use."""
        ...


class JudgedPredictor(Predictor, Protocol):
    """A predictor that wants a language model's verdict; `judged.JudgedPlacedHead` makes a `JudgedHead` of it."""

    @property
    def judge(self) -> str: ...

    def question(self, segments: Sequence[Segment]) -> bytes | None: ...

    def logits_by(self, segments: Sequence[Segment], answer: bytes) -> npt.NDArray[np.float32]:
        """[1, reference models], by the judge's answer. Raises ValueError where that holds no verdict."""
        ...


@runtime_checkable
class Selective(Predictor, Protocol):
    """A predictor that saves work where a pool needs some of its models only."""

    def only(self, models: npt.NDArray[np.int64]) -> Predictor:
        """The same, right for these of its models; what it says of others does not matter."""
        ...


#: Plain questions of several fields: what members are ordered by where a head says nothing sensible of an empty text.
PLAIN = (
    "What is the capital of Australia, and why was it not Sydney?",
    "A train leaves at 9:40 and arrives at 13:05. How long does the journey take in minutes?",
    "Write a Python function that returns the n-th Fibonacci number.",
    "Summarise the causes of the First World War in three sentences.",
    "Which gas do plants take up in photosynthesis, and which one do they give off?",
    "Translate into French: where is the nearest railway station?",
    "A patient has a fever and a stiff neck. Which illness must be ruled out first?",
    "Is a contract valid if one of the parties was a minor when it was signed?",
)
