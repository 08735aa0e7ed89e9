"""Query to scores: the conversation's texts, weighed, through the head. One native call; nothing waits."""

from collections.abc import Sequence

from router.config import Member
from router.features.conversation import segments
from router.heads import Claim, Head, Placement, make, servable
from router.types import Query, Scores, Turn


class Scoring:
    """A head for the members of one pool, in their order. Safe from many threads."""

    def __init__(self, head: Head, router: str = "mf") -> None:
        """`router`: the head's method, which clients may ask for by `router-NAME-THRESHOLD`."""
        self.head = head
        self.router = router
        self.turns = head.turns
        self.slow = bool(getattr(head, "slow", False))  #: a score takes milliseconds

    @classmethod
    def load(cls, checkpoint: str, pool: Sequence[Member]) -> "Scoring":
        """Raises `ConfigError` where the checkpoint, or what a member says of itself, is refused."""
        artefact = servable(checkpoint)
        return cls(make(artefact, [_claim(member) for member in pool]), artefact.meta.router)

    @property
    def placements(self) -> tuple[Placement, ...]:
        return self.head.placements

    def score(self, query: Query) -> Scores:
        return self.head.score(segments(query.turns, self.turns))


def strengths(scoring: Scoring, pool: Sequence[Member]) -> tuple[float, ...]:
    """One figure per member that orders them: `strength` where all tell it, else the mean quality expected of answers
    to plain questions of several fields."""
    told = [member.strength for member in pool if member.strength is not None]
    if len(told) == len(pool):
        return tuple(told)
    expected = [scoring.score(query).quality for query in _PLAIN]
    return tuple(sum(qualities) / len(_PLAIN) for qualities in zip(*expected, strict=True))


_QUESTIONS = (
    "What is the capital of Australia, and why was it not Sydney?",
    "A train leaves at 9:40 and arrives at 13:05. How long does the journey take in minutes?",
    "Write a Python function that returns the n-th Fibonacci number.",
    "Summarise the causes of the First World War in three sentences.",
    "Which gas do plants take up in photosynthesis, and which one do they give off?",
    "Translate into French: where is the nearest railway station?",
    "A patient has a fever and a stiff neck. Which illness must be ruled out first?",
    "Is a contract valid if one of the parties was a minor when it was signed?",
)
_PLAIN = tuple(Query(kind="chat", model="auto", turns=(Turn("user", question),)) for question in _QUESTIONS)


def _claim(member: Member) -> Claim:
    return Claim(name=member.name, model=member.model, like=member.like, strength=member.strength)
