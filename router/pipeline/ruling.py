"""The config's rules, compiled for one pool: what they say of a request, beside its scores.

    signals of the request -> rules that hold -> pinned, forbidden, passed over, quality points, when models are chosen

Evaluated once, where the request is scored, and kept with its scores. What raises here ends the request: no rule is
passed over. Safe from many threads.
"""

import logging
import math
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
import numpy.typing as npt
from msgspec.structs import replace

from router.config import Config, Member, Personal, Rule, When, barred_by
from router.dialects.decode import decode
from router.errors import OUR_FAULT, Forbidden, RouterError
from router.features import static
from router.policy import Settings
from router.signals import body as bodies
from router.signals import personal
from router.signals.engine import compiled
from router.signals.text import CODE, FORMULAS, Pattern, foreign_share, given, holds, is_of_script, word_patterns
from router.types import Decision, Kind, Query, Ruled, Scores

log = logging.getLogger("headgate.pipeline")

#: Reading larger bodies, all of them, takes milliseconds.
LONG_BODY_BYTES: Final = 32 * 1024
#: Requests that bring a member nothing to read.
_BRINGS_NOTHING: Final[frozenset[Kind]] = frozenset({"stored", "admin", "tokenizer_info"})
#: Of which the texts are turns.
_CONVERSATIONS: Final[frozenset[Kind]] = frozenset(
    {"chat", "completions", "responses", "messages", "count_tokens", "tokenize", "chat_batch"}
)
#: Whose texts are ids.
_IN_IDS: Final[frozenset[Kind]] = frozenset({"generate_tokens", "detokenize"})
_CODE, _FORMULAS = (re.compile(pattern, re.IGNORECASE) for pattern in (CODE, FORMULAS))


Points = npt.NDArray[np.float64]  #: of quality, of each member

#: The reason of decisions by rules, before their names.
RULE: Final = "rule"


class Rules:
    """Those of one config, for one member a model."""

    def __init__(self, rules: Sequence[Rule], pool: Sequence[Member]) -> None:
        """Raises ConfigError on a pattern that is none."""
        index = {name: i for i, member in enumerate(pool) for name in (member.name, *member.also)}
        self._rules = [_Compiled(rule, pool, index, f"$.routing.rules[{i}]") for i, rule in enumerate(rules)]
        #: That are read, in lower case.
        self.headers = frozenset(name for rule in rules for name in (*rule.when.headers, *rule.when.header_patterns))
        self._members = len(pool)

    def said(
        self, query: Query, body: bytes, prompt_tokens: int | None
    ) -> tuple[Ruled | None, npt.NDArray[np.float64]]:
        """None where no rule holds; and the quality points of each member. `prompt_tokens`: None: any number."""
        asked = _Asked(query, body, prompt_tokens)
        held = [each for each in self._rules if each.holds(asked)]
        points = np.zeros(self._members)
        if not held:
            return None, points
        for each in held:
            points += each.points
        forbidden = frozenset[int]().union(*(each.barred for each in held))
        pins = [each.pinned for each in held if each.pinned >= 0 and each.pinned not in forbidden]
        routes = [each.passed_over for each in held if each.passed_over]
        choices = [each.rule.choice for each in held if each.rule.choice]
        ruled = Ruled(
            rules=tuple(each.rule.name for each in held),
            pinned=pins[0] if pins else -1,
            forbidden=forbidden,
            passed_over=routes[0] if routes else frozenset(),
            choice=choices[0] if choices else "",
        )
        return ruled, points


def rules_of(config: Config) -> Rules | None:
    """None where there are none. `config`: with one member a model. Raises ConfigError."""
    return Rules(config.routing.rules, config.pool) if config.routing.rules else None


def scored(rules: Rules | None, query: Query, body: bytes, scores: Scores) -> Scores:
    """`scores` with what the rules say, their points within the quality. Raises `RouterError`."""
    if rules is None or query.kind in _BRINGS_NOTHING:
        return scores
    try:
        ruled, points = rules.said(query, body, scores.prompt_tokens)
    except RouterError:
        raise
    except Exception:
        log.exception("request %s: a rule of the config failed", query.request_id)
        raise RouterError(OUR_FAULT) from None
    if ruled is None:
        return scores
    quality = tuple(q + p for q, p in zip(scores.quality, points.tolist(), strict=True))
    return replace(scores, quality=quality, ruled=ruled)


def settled(settings: Settings, ruled: Ruled | None, names: Sequence[str]) -> Settings:
    """How to decide where rules said so; again it changes nothing. Raises `Forbidden` where the member that was asked
    for may not answer."""
    if ruled is None:
        return settings
    if settings.rule == "pinned" and settings.pinned in ruled.forbidden:
        rules, model = ", ".join(ruled.rules), names[settings.pinned]
        raise Forbidden(f"rules of this server ({rules}) forbid model {model!r} for this request", code="rules")
    if settings.rule == "pinned":
        return _with(settings, ruled.forbidden, -1, ruled.rules)
    return _with(settings, ruled.forbidden | ruled.passed_over, ruled.pinned, ruled.rules)


def in_words(decision: Decision, settings: Settings) -> Decision:
    """The terms of `decision` say of each member that rules ruled out that they did."""
    terms = decision.terms
    if settings.ruled_out:
        told = enumerate(terms)
        terms = tuple(replace(term, excluded="rule") if i in settings.ruled_out else term for i, term in told)
        object.__setattr__(decision, "terms", terms)
    return decision


def refusal(error: RouterError, settings: Settings, members: int) -> RouterError:
    """What is told of `error`, that none of so many members can serve, where rules left none."""
    if len(settings.ruled_out) < members:
        return error
    return Forbidden(
        f"rules of this server ({', '.join(settings.ruled_by)}) leave no model for this request", code="rules"
    )


@lru_cache(maxsize=256)
def _with(settings: Settings, excluded: frozenset[int], pinned: int, rules: tuple[str, ...]) -> Settings:
    """The same object for the same: what it is natively is kept by its identity."""
    made = replace(settings, excluded=settings.excluded | excluded, ruled_out=excluded, ruled_by=rules)
    return made if pinned < 0 else replace(made, rule="pinned", pinned=pinned)


class _Compiled:
    """One rule."""

    def __init__(self, rule: Rule, pool: Sequence[Member], index: Mapping[str, int], at: str) -> None:
        self.rule = rule
        self.barred = barred_by(rule, pool, index)
        self.pinned = index[rule.pin] if rule.pin else -1
        routed = {index[name] for name in rule.route}
        self.passed_over = frozenset(range(len(pool))) - routed if routed else frozenset[int]()
        self.points = np.zeros(len(pool))
        for name, points in rule.prefer.items():
            self.points[index[name]] += points
        self._signals = _signals(rule.when, f"{at}.when")

    def holds(self, asked: "_Asked") -> bool:
        return all(signal(asked) for signal in self._signals)


Signal = Callable[["_Asked"], bool]


def _signals(when: When, at: str) -> list[Signal]:
    """The cheapest first."""
    signals: list[Signal] = []
    over, under = when.tokens_over, when.tokens_under
    if over is not None or under is not None:
        least, most = -1 if over is None else over, math.inf if under is None else under
        signals.append(lambda asked: asked.prompt_tokens is None or least < asked.prompt_tokens < most)
    for need, wanted in (("tools", when.tools), ("vision", when.images), ("audio", when.audio)):
        if wanted is not None:
            signals.append(_needs(need, wanted))
    if when.keys:
        signals.append(lambda asked: asked.query.key_id in when.keys)
    if when.sessions:
        signals.append(lambda asked: any(fnmatchcase(asked.query.session_id, each) for each in when.sessions))
    if when.models:
        signals.append(lambda asked: any(fnmatchcase(asked.query.model, each) for each in when.models))
    signals += [_header(name, value) for name, value in when.headers.items()]
    signals += [
        _header_pattern(name, compiled(pattern, f"{at}.header_patterns.{name}"))
        for name, pattern in when.header_patterns.items()
    ]
    if texts := _texts(when, at):
        signals.append(texts)
    if when.personal:
        signals.append(lambda asked: asked.has_personal(when.personal))
    return signals


def _needs(need: str, wanted: bool) -> Signal:
    return lambda asked: (need in asked.query.needs) is wanted


def _header(name: str, value: str | tuple[str, ...]) -> Signal:
    values = (value,) if isinstance(value, str) else value

    def holds(asked: _Asked) -> bool:
        sent = asked.query.headers.get(name)
        return sent is not None and ("*" in values or sent in values)

    return holds


def _header_pattern(name: str, pattern: Pattern) -> Signal:
    def holds(asked: _Asked) -> bool:
        sent = asked.query.headers.get(name)
        return sent is not None and bool(pattern.search(sent))

    return holds


def _texts(when: When, at: str) -> Signal | None:
    """Whether all signals of a text hold for one of those that are read. None where there are no such signals."""
    patterns: list[Pattern] = [*word_patterns(when)]
    if when.pattern:
        patterns.append(compiled(when.pattern, f"{at}.pattern"))
    tests: list[Callable[[str], bool]] = []
    if given(when):
        tests.append(lambda text: holds(when, patterns, text, text, 0 if when.foreign is None else foreign_share(text)))
    if when.scripts:
        tests.append(lambda text: is_of_script(text, when.scripts))
    tests += [_finds(p, wanted) for wanted, p in ((when.code, _CODE), (when.maths, _FORMULAS)) if wanted is not None]
    if when.intent is not None:
        tests.append(_like(when.intent.examples, when.intent.least))
    if not tests:
        return None
    return lambda asked: any(all(test(text) for test in tests) for text in asked.texts(when.of))


def _finds(pattern: Pattern, wanted: bool) -> Callable[[str], bool]:
    return lambda text: bool(pattern.search(text)) is wanted


def _like(examples: Sequence[str], least: float) -> Callable[[str], bool]:
    """Whether the text's static embedding is near to that of one of `examples`."""
    embedding = _embedding()
    rows = embedding.embed_batch([example for example in examples if example.strip()])
    return lambda text: bool((rows @ embedding.embed(text)).max() >= least)


@lru_cache(maxsize=1)
def _embedding() -> static.StaticEmbedding:
    return static.read()


class _Asked:
    """One request, as the signals read it."""

    def __init__(self, query: Query, body: bytes, prompt_tokens: int | None) -> None:
        self.query, self.prompt_tokens = query, prompt_tokens
        self._body = body

    @cached_property
    def _turns(self) -> list[tuple[str, str]]:
        """Those of the body where the query's were let go of."""
        query = self.query
        turns = query.turns
        if not len(turns) and self._body and query.kind in _CONVERSATIONS:
            turns = decode(query.kind, self._body).turns
        return [(turn.role, turn.text) for turn in turns]

    def texts(self, of: str) -> list[str]:
        if of == "all":
            return [text for _, text in self._turns]
        if of == "system":
            return [text for role, text in self._turns if role in ("system", "developer")]
        users = [text for role, text in self._turns if role == "user"]
        return users[-1:] if of == "last" else users

    def has_personal(self, kinds: Sequence[Personal]) -> bool:
        """Of what cannot be read: true."""
        text = self._all
        return text is None or bool(personal.found(text, kinds))

    @cached_property
    def _all(self) -> str | None:
        """Of the whole body; None where it cannot be read as text."""
        if self.query.token_ids or self.query.kind in _IN_IDS:
            return None
        if not self._body:
            return "\n".join(text for _, text in self._turns)
        return bodies.text_of(self._body)
