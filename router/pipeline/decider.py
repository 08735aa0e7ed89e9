"""Text to decision: names, scores and policy for one pool. Needs no engine, no event loop, no network.

decider = Router.decider(pool=[Member(name="small", like="llama-3.1-8b-instruct"), ...])
decider.decide("What is 2 + 2?").model
"""

import secrets
from collections.abc import Sequence
from itertools import count
from typing import get_args

import msgspec

from router.config import Config, Member, Routing, is_pooling
from router.pipeline.adapters import ConfiguredAdapters
from router.pipeline.conversation import Conversation, query_of
from router.pipeline.judge import judge_of
from router.pipeline.model_names import Adapters, Names, strongest_and_weakest
from router.pipeline.scoring import Scoring, strengths
from router.policy import Settings, decide
from router.pool.load import usd_per_s
from router.types import GENERATING, Capability, Decision, MemberState, Query, Scores, Snapshot

#: What an engine is taken to be able to do while nothing is known of it.
_ALL = frozenset(get_args(Capability))
#: Of a JSON body, roughly.
_BYTES_A_TOKEN = 4


class Decider:
    """Raises `ConfigError` where the checkpoint or a member's claim is refused."""

    def __init__(self, config: Config, scoring: Scoring | None = None, adapters: Adapters | None = None) -> None:
        """`adapters`: those of the engines; default: those that the config names."""
        self._config = config
        self.adapters = ConfiguredAdapters(config.pool) if adapters is None else adapters
        self._assumed = Snapshot(_assumed(config))
        self.next_id = count().__next__
        self.id_prefix = secrets.token_hex(5)
        self.routing = config.routing
        self._said: dict[str, bool] = {}  #: by name of an engine that has run: whether it is a pooling model
        self.pooling = self._pooling()  #: indices of the members that are
        self.scoring = scoring or Scoring.load(config.routing.checkpoint, config.pool)
        self.names = self._names(config.routing, self.scoring)
        self.judge = judge_of(self.scoring.head, config.routing.judge, config.pool)  #: index of the member to ask

    @property
    def assumed(self) -> Snapshot:
        """The pool as configured: every member ready and idle."""
        return self._assumed

    def reload(self, routing: Routing) -> None:
        """Decide by `routing` from now on. When its checkpoint is refused all stays as it was."""
        scoring = self.scoring
        if routing.checkpoint != self.routing.checkpoint:
            scoring = Scoring.load(routing.checkpoint, self._config.pool)
        judge = judge_of(scoring.head, routing.judge, self._config.pool)
        self.names = self._names(routing, scoring)
        self.routing, self.scoring, self.judge = routing, scoring, judge

    def told(self, name: str, capabilities: frozenset[str]) -> bool:
        """The member called `name` runs, and says what it can do. Whether names mean something else by that."""
        if capabilities:
            self._said[name] = GENERATING.isdisjoint(capabilities)
        before, self.pooling = self.pooling, self._pooling()
        if self.pooling == before:
            return False
        self.names = self._names(self.routing, self.scoring)
        return True

    def unscored(self, body_bytes: int) -> Scores:
        """Of a request whose member is given: its size is all that is known."""
        return Scores((0.0,) * len(self._config.pool), body_bytes // _BYTES_A_TOKEN)

    def decide(
        self, what: str | Conversation | Query, *, model: str = "auto", max_tokens: int | None = None
    ) -> Decision:
        """The decision for a text, a conversation or a query, on idle engines. Raises `RouterError`."""
        query = what if isinstance(what, Query) else query_of(what, model=model, max_tokens=max_tokens)
        return self.choose(query, self.scoring.score(query), self._assumed, self.names.settings_of(query))

    def choose(
        self, query: Query, scores: Scores, snapshot: Snapshot, settings: Settings, *, again: str = ""
    ) -> Decision:
        """`again`: the id of the decision that this one, of a retry, is to stand for."""
        if again:
            return decide(query, scores, snapshot, settings, id=again, reason="retry")
        return decide(query, scores, snapshot, settings, id=f"{self.id_prefix}-{self.next_id():x}")

    def _pooling(self) -> frozenset[int]:
        pool = self._config.pool
        return frozenset(i for i, member in enumerate(pool) if self._said.get(member.name, is_pooling(member)))

    def _names(self, routing: Routing, scoring: Scoring) -> Names:
        pool = self._config.pool
        usd = [state.usd_per_s for state in self._assumed.members]
        ranked = [i for i in range(len(pool)) if i not in self.pooling] or list(range(len(pool)))
        strength = strengths(scoring, pool, ranked)
        strong, weak = (ranked[i] for i in strongest_and_weakest(strength, [usd[i] for i in ranked]))
        limits = self._config.server.limits
        return Names(pool, routing, limits, strong=strong, weak=weak, adapters=self.adapters, router=scoring.router)


def _assumed(config: Config) -> tuple[MemberState, ...]:
    """Members as configured, ready and idle."""
    return tuple(
        MemberState(
            name=member.name,
            context_tokens=member.context_tokens,
            capabilities=_assumed_capabilities(member),
            prefill_tokens_per_s=member.prefill_tokens_per_s,
            time_per_output_token_s=member.time_per_output_token_s,
            mean_output_tokens=member.mean_output_tokens,
            usd_per_s=usd,
        )
        for member, usd in zip(config.pool, usd_per_s(config), strict=True)
    )


def _assumed_capabilities(member: Member) -> frozenset[str]:
    if member.capabilities is not None:
        return frozenset(member.capabilities)
    return _ALL - GENERATING if is_pooling(member) else _ALL


def decider_of(checkpoint: str, pool: Sequence[Member], **routing: float | None) -> Decider:
    """A decider for members that need not run. `routing` gives `price`, `threshold` or `slo_ttft_s`."""
    nobody = pool[0].name if pool else ""  # the judge of a checkpoint that has one: it is not asked here
    settings = msgspec.convert({"checkpoint": checkpoint, "judge": nobody, **routing}, Routing)
    return Decider(Config(pool=tuple(pool), routing=settings))
