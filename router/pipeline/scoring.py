"""Query to scores: the conversation's texts, weighed, through the head. One native call; nothing waits."""

from collections.abc import Sequence

from msgspec.structs import replace

from router.config import Member, is_pooling
from router.features.conversation import segments
from router.heads import Claim, Head, Placement, make, servable
from router.heads.methods.mf import MfHead
from router.heads.weights import billions
from router.native.large_body import TextTurns
from router.types import Query, Scores, Turn


class Scoring:
    """A head for the members of one pool, in their order. Safe from many threads."""

    def __init__(self, head: Head, router: str = "mf") -> None:
        """`router`: the head's method, which clients may ask for by `router-NAME-THRESHOLD`."""
        self.head = head
        self.router = router
        self.turns = head.turns
        self._scorer = head.scorer if isinstance(head, MfHead) else None
        self.slow = bool(getattr(head, "slow", False))  #: a score takes milliseconds
        self._unscored: frozenset[str] = frozenset()  #: members whose quality is a figure without meaning
        self.typical: tuple[str, ...] = getattr(head, "typical", ("",))  #: texts whose mean quality orders members

    @classmethod
    def load(cls, checkpoint: str, pool: Sequence[Member]) -> "Scoring":
        """Raises `ConfigError` where the checkpoint, or what a member says of itself, is refused."""
        artefact = servable(checkpoint)
        unscored = frozenset(member.name for member in pool if is_pooling(member))
        claims = [_claim(member, pools=member.name in unscored) for member in pool]
        scoring = cls(make(artefact, claims), artefact.meta.router)
        scoring._unscored = unscored
        return scoring

    @property
    def placements(self) -> tuple[Placement, ...]:
        return tuple(
            Placement(name=placed.name, by="none") if placed.name in self._unscored else placed
            for placed in self.head.placements
        )

    def score(self, query: Query) -> Scores:
        turns = query.turns
        if self._scorer is not None and isinstance(turns, TextTurns):
            scores = self._scorer.scores_turns(turns, self.turns)
        else:
            scores = self.head.score(segments(turns, self.turns))
        if query.token_ids and query.kind == "completions":
            return replace(scores, prompt_tokens=max(scores.prompt_tokens, query.token_ids))
        return scores


def strengths(scoring: Scoring, pool: Sequence[Member], ranked: Sequence[int]) -> tuple[float, ...]:
    """One figure for each member of the indices `ranked` that orders them: `strength` where all tell it, else the
    quality expected of answers to nothing in particular, or the mean over what the head calls typical."""
    told = [strength for i in ranked if (strength := pool[i].strength) is not None]
    if len(told) == len(ranked):
        return tuple(told)
    queries = [Query(kind="chat", model="auto", turns=(Turn("user", text),)) for text in scoring.typical]
    expected = [scoring.score(query).quality for query in queries]
    means = [sum(qualities) / len(expected) for qualities in zip(*expected, strict=True)]
    return tuple(means[i] for i in ranked)


def _claim(member: Member, *, pools: bool) -> Claim:
    told = bool(member.like) or member.strength is not None or member.kind != "engine" or pools
    return Claim(
        name=member.name,
        model=member.model,
        like=member.like,
        strength=member.strength,
        size_b=None if told else billions(member.model),
    )
