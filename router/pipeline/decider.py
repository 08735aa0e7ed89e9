"""Text to decision: names, scores and policy for one pool. Needs no engine, no event loop, no network.

decider = Router.decider(pool=[Member(name="small", like="llama-3.1-8b-instruct"), ...])
decider.decide("What is 2 + 2?").model
"""

import secrets
from collections.abc import Sequence
from itertools import count
from typing import get_args

import msgspec

from router.config import Config, Member, Routing, groups, is_pooling, models
from router.errors import RouterError
from router.native.fleet import Picks
from router.pipeline.adapters import ConfiguredAdapters
from router.pipeline.conversation import Conversation, query_of
from router.pipeline.intake import draw_of
from router.pipeline.judge import judge_of
from router.pipeline.model_names import Adapters, Names, strongest_and_weakest
from router.pipeline.ruling import LONG_BODY_BYTES, RULE, Rules, in_words, refusal, rules_of, scored, settled
from router.pipeline.scoring import Scoring, strengths
from router.pipeline.whole import WHOLE
from router.policy import Settings, decide
from router.pool.load import usd_per_s
from router.types import GENERATING, Capability, Cause, Decision, MemberState, Query, Scores, Snapshot

#: What an engine is taken to be able to do while nothing is known of it.
_ALL = frozenset(get_args(Capability))
#: Of a JSON body, roughly.
_BYTES_A_TOKEN = 4


class Decider:
    """Raises `ConfigError` where the checkpoint or a member's claim is refused."""

    def __init__(
        self,
        config: Config,
        scoring: Scoring | None = None,
        adapters: Adapters | None = None,
        *,
        live: bool = False,
    ) -> None:
        """`adapters`: those of the engines; default: those that the config names. `live`: canaries get their share;
        else every decision is that of their members."""
        self._live = live
        self.adapters = ConfiguredAdapters(models(config.pool)) if adapters is None else adapters
        self.planned = False  #: any request may have several legs: it is begun in Python
        self._steered: tuple[float, Cause, float | None] | None = None
        self.next_id = count().__next__
        self.id_prefix = secrets.token_hex(5)
        self.hold(self.ways(config, scoring or Scoring.load(config.routing.checkpoint, models(config.pool))))

    def ways(self, config: Config, scoring: Scoring) -> "Ways":
        """How decisions are made for the models of the config's pool, of which `scoring` is. Raises `ConfigError`."""
        engines, config = config, with_models(config)
        pooling = frozenset(i for i, member in enumerate(config.pool) if is_pooling(member))
        assumed = Snapshot(_assumed(engines, pooling))
        names = _names(config, scoring, assumed, pooling, self.adapters)
        judge = judge_of(scoring.head, config.routing.judge, config.pool)
        return Ways(
            config=engines, models=config, scoring=scoring, names=names, judge=judge, assumed=assumed, pooling=pooling,
            rules=rules_of(config),
        )  # fmt: skip

    def hold(self, ways: "Ways") -> None:
        """Decide so, for this pool, from now on. What its engines said of themselves is to be `told` again."""
        self._config, self._assumed = ways.models, ways.assumed
        self._said: dict[str, bool] = {}  #: by name of an engine that has run: whether it is a pooling model
        self.pooling = self._configured_pooling = ways.pooling  #: indices of the members that are
        self.routing, self.scoring = ways.config.routing, ways.scoring
        self._know(ways.names)
        self.judge = ways.judge  #: index of the member to ask
        self.rules = ways.rules
        self._draws = self._live and any(member.replaces for member in ways.models.pool)

    @property
    def assumed(self) -> Snapshot:
        """The pool as configured: every member ready and idle."""
        return self._assumed

    def reload(self, routing: Routing) -> None:
        """Decide by `routing` from now on. When its checkpoint is refused all stays as it was."""
        scoring, config = self.scoring, msgspec.structs.replace(self._config, routing=routing)
        if routing.checkpoint != self.routing.checkpoint:
            scoring = Scoring.load(routing.checkpoint, self._config.pool)
        judge = judge_of(scoring.head, routing.judge, config.pool)
        rules = rules_of(config)
        self._know(_names(config, scoring, self._assumed, self.pooling, self.adapters))
        self._config, self.routing, self.scoring, self.judge, self.rules = config, routing, scoring, judge, rules

    def told(self, name: str, capabilities: frozenset[str]) -> bool:
        """The model called `name` runs, and says what it can do. Whether names mean something else by that."""
        if capabilities:
            self._said[name] = GENERATING.isdisjoint(capabilities)
        said, configured = self._said, self._configured_pooling
        pool = enumerate(self._config.pool)
        before, self.pooling = self.pooling, frozenset(i for i, m in pool if said.get(m.name, i in configured))
        if self.pooling == before:
            return False
        self._know(_names(self._config, self.scoring, self._assumed, self.pooling, self.adapters))
        return True

    def steer(self, price: float, price_of: Cause, shed_ttft_s: float | None) -> bool:
        """Decide by this lambda, and what steers it, in the place of the configured one, and refuse requests that no
        member would begin within `shed_ttft_s`. From now on, for other pools too. Whether that is anything new."""
        before, self._steered = self._steered, (price, price_of, shed_ttft_s)
        if before == self._steered:
            return False
        self.names.steer(*self._steered)
        return True

    def _know(self, names: Names) -> None:
        self.names = names
        if self._steered is not None:
            names.steer(*self._steered)

    def unscored(self, body_bytes: int) -> Scores:
        """Of a request whose member is given: its size is all that is known."""
        return Scores((0.0,) * len(self._config.pool), body_bytes // _BYTES_A_TOKEN)

    def decide(
        self, what: str | Conversation | Query, *, model: str = "auto", max_tokens: int | None = None
    ) -> Decision:
        """The decision for a text, a conversation or a query, on idle engines. Raises `RouterError`."""
        query = what if isinstance(what, Query) else query_of(what, model=model, max_tokens=max_tokens)
        return self.choose(query, self.score(query), self._assumed, self.names.settings_of(query))

    def score(self, query: Query, body: bytes = b"") -> Scores:
        """By the head, where its kind is chosen by quality, with what the config's rules say. Raises `RouterError`."""
        scores = self.unscored(len(body)) if query.kind in WHOLE else self.scoring.score(query)
        return scored(self.rules, query, body, scores)

    def reads_long(self, body: bytes) -> bool:
        """Whether rules take milliseconds to read it, which are spent in a thread."""
        return self.rules is not None and len(body) > LONG_BODY_BYTES

    @property
    def rule_headers(self) -> frozenset[str]:
        """Names of the request headers that the rules read, in lower case."""
        return frozenset() if self.rules is None else self.rules.headers

    def forbids(self, member: int, query: Query, body: bytes) -> bool:
        """Whether the rules keep the request from this member, whatever it is asked for. Raises `RouterError`."""
        if self.rules is None:
            return False
        ruled, _ = self.rules.said(query, body, None)
        return ruled is not None and member in ruled.forbidden

    def choose(
        self,
        query: Query,
        scores: Scores,
        pool: Snapshot | Picks,
        settings: Settings,
        *,
        again: str = "",
        reason: str = "retry",
    ) -> Decision:
        """`again`: the id of the decision that this one, of a later leg, is to stand for; `reason`: why it is made."""
        id = again or f"{self.id_prefix}-{self.next_id():x}"
        if scores.ruled is not None:
            return self._choose_by_rules(query, scores, pool, settings, id, reason if again else "")
        return decide(
            query, scores, pool, settings, id=id, reason=reason if again else None, draw=self._draw(query, id)
        )

    def _choose_by_rules(
        self, query: Query, scores: Scores, pool: Snapshot | Picks, settings: Settings, id: str, again: str
    ) -> Decision:
        """`again`: why a later leg is decided; empty: it is the first."""
        assert scores.ruled is not None
        names = [member.name for member in self._config.pool]
        asked_for = settings.rule == "pinned" and settings.pinned != scores.ruled.pinned  # by the client, and allowed
        settings = settled(settings, scores.ruled, names)
        by_rules = None if asked_for else f"{RULE}; {', '.join(settings.ruled_by)}"
        reason = again or by_rules
        try:
            decision = decide(query, scores, pool, settings, id=id, reason=reason, draw=self._draw(query, id))
        except RouterError as error:
            raise refusal(error, settings, len(names)) from error
        return in_words(decision, settings)

    def _draw(self, query: Query, id: str) -> float:
        """For a canary."""
        # An adapter, and a stored answer, is one member's alone.
        shared = not query.adapter and not query.response_id
        return draw_of(query.session_id or id) if self._draws and shared else 0.0


class Ways(msgspec.Struct, frozen=True, kw_only=True):
    """What decisions go by, for one pool and its routing settings."""

    config: Config
    models: Config  #: with one member a model, in whose order all else is
    scoring: Scoring
    names: Names
    judge: int | None  #: index of the member to ask
    assumed: Snapshot
    rules: Rules | None
    pooling: frozenset[int]  #: indices of pooling models, as far as the config tells


def _names(config: Config, scoring: Scoring, assumed: Snapshot, pooling: frozenset[int], adapters: Adapters) -> Names:
    """Neither pooling models nor canaries are the strongest or the weakest."""
    pool, usd = config.pool, [state.usd_per_s for state in assumed.members]
    able = [i for i, member in enumerate(pool) if not member.replaces]
    ranked = [i for i in able if i not in pooling] or able
    strength = strengths(scoring, pool, ranked)
    strong, weak = (ranked[i] for i in strongest_and_weakest(strength, [usd[i] for i in ranked]))
    limits = config.server.limits
    return Names(pool, config.routing, limits, strong=strong, weak=weak, adapters=adapters, router=scoring.router)


def with_models(config: Config) -> Config:
    """With one member a model in the place of its engines."""
    return msgspec.structs.replace(config, pool=models(config.pool))


def _assumed(config: Config, pooling: frozenset[int]) -> tuple[MemberState, ...]:
    """Models as configured, ready and idle; the price is that of one engine."""
    pool = models(config.pool)
    order, each_usd_per_s = [member.name for member in pool], usd_per_s(config)
    return tuple(
        MemberState(
            name=member.name,
            context_tokens=member.context_tokens,
            capabilities=_assumed_capabilities(member, pools=i in pooling),
            prefill_tokens_per_s=member.prefill_tokens_per_s,
            time_per_output_token_s=member.time_per_output_token_s,
            mean_output_tokens=member.mean_output_tokens,
            usd_per_s=usd,
            canary_of=order.index(member.replaces) if member.replaces else 0,
            canary_weight=member.weight if member.replaces else 0.0,
        )
        for i, (member, usd) in enumerate(
            zip(pool, [each_usd_per_s[first] for first, *_ in groups(config.pool)], strict=True)
        )
    )


def _assumed_capabilities(member: Member, *, pools: bool) -> frozenset[str]:
    if member.capabilities is not None:
        return frozenset(member.capabilities)
    return _ALL - GENERATING if pools else _ALL


def decider_of(checkpoint: str, pool: Sequence[Member], **routing: float | None) -> Decider:
    """A decider for members that need not run. `routing` gives `price`, `threshold` or `slo_ttft_s`."""
    nobody = pool[0].name if pool else ""  # the judge of a checkpoint that has one: it is not asked here
    settings = msgspec.convert({"checkpoint": checkpoint, "judge": nobody, **routing}, Routing)
    return Decider(Config(pool=tuple(pool), routing=settings))
