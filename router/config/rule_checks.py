"""Checks of `routing.rules`: members and keys that there are not, acts that contradict, rules that can never act.

One rule counts for more requests than another (`covers`) where each of its signals holds whenever the other's do.
"""

from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Final

from router.config.explain import one_of, shown
from router.config.presented import key_id
from router.config.rules import Rule, When
from router.config.tree import Config, Member

Refuse = Callable[[str, str], None]
MOST_RULES: Final = 200
#: Signals of which any value may hold: fewer values hold less often.
_ANY: Final = ("words", "scripts", "personal", "keys", "sessions", "models")
_OF_TEXTS: Final = ("words", "pattern", "longer", "shorter", "foreign", "scripts", "code", "maths", "intent")
_DEFAULT: Final = When()


def check_rules(config: Config, pool: Sequence[Member], refuse: Refuse) -> None:
    """`pool`: one member a model. `refuse` raises, with a reason and the key."""
    rules = config.routing.rules
    if len(rules) > MOST_RULES:
        refuse(f"expected at most {MOST_RULES} rules, got {len(rules)}", "$.routing.rules")
    index = {name: i for i, member in enumerate(pool) for name in (member.name, *member.also)}
    ids = [key_id(each.key) for each in config.server.keys]
    for i, rule in enumerate(rules):
        at = f"$.routing.rules[{i}]"
        _check_name(rule.name, [other.name for other in rules[:i]], refuse, f"{at}.name")
        _check_when(rule.when, ids, refuse, f"{at}.when")
        _check_acts(rule, pool, index, refuse, at)
    for i in range(len(rules)):
        _check_that_it_can_act(i, rules, pool, index, refuse)


def barred_by(rule: Rule, pool: Sequence[Member], index: Mapping[str, int]) -> frozenset[int]:
    """The members that may not answer where `rule` holds."""
    remote = {i for i, member in enumerate(pool) if rule.local and member.kind == "openai"}
    named = {index[name] for name in rule.forbid}
    # A canary answers as the member that it stands for.
    canaries = {i for i, member in enumerate(pool) if member.replaces and index[member.replaces] in named}
    return frozenset(remote | named | canaries)


def covers(weaker: When, stronger: When) -> bool:
    """Whether `weaker` surely holds whenever `stronger` does."""
    if weaker.of not in (stronger.of, "all") and any(_given(weaker, key) for key in _OF_TEXTS):
        return False
    return all(_covers(key, getattr(weaker, key), getattr(stronger, key)) for key in _keys() if _given(weaker, key))


def _covers(key: str, weaker: Any, stronger: Any) -> bool:
    if stronger == getattr(_DEFAULT, key):
        return False
    if key in ("sessions", "models"):
        return all(any(fnmatchcase(value, pattern) for pattern in weaker) for value in stronger)
    if key in _ANY:
        return set(stronger) <= set(weaker)
    if key in ("longer", "tokens_over", "foreign"):
        return bool(stronger >= weaker)
    if key in ("shorter", "tokens_under"):
        return bool(stronger <= weaker)
    if key == "intent":
        return set(stronger.examples) <= set(weaker.examples) and stronger.least >= weaker.least
    if key == "headers":
        return all(name in stronger and _includes(weaker[name], stronger[name]) for name in weaker)
    if key == "header_patterns":
        return all(stronger.get(name) == pattern for name, pattern in weaker.items())
    return bool(weaker == stronger)


def _includes(weaker: str | tuple[str, ...], stronger: str | tuple[str, ...]) -> bool:
    many, few = ({value} if isinstance(value, str) else set(value) for value in (weaker, stronger))
    return "*" in many or few <= many


def _keys() -> list[str]:
    return [field for field in When.__struct_fields__ if field != "of"]


def _given(when: When, key: str) -> bool:
    return bool(getattr(when, key) != getattr(_DEFAULT, key))


def _check_name(name: str, before: Sequence[str], refuse: Refuse, at: str) -> None:
    if not 1 <= len(name) <= 64 or not all(char.isascii() and (char.isalnum() or char in "_.-") for char in name):
        refuse(f"expected 1 to 64 letters, digits, `_`, `.` or `-`, got {shown(name)}", at)
    if name in before:
        refuse(f"two rules are named {name!r}; names must differ", at)


def _check_when(when: When, ids: Sequence[str], refuse: Refuse, at: str) -> None:
    if not any(_given(when, key) for key in _keys()):
        refuse(f"expected at least one signal: {', '.join(_keys())}", at)
    if when.of != _DEFAULT.of and not any(_given(when, key) for key in _OF_TEXTS):
        refuse("it says which texts are read, and no signal is of a text", f"{at}.of")
    for key in _ANY:
        if any(not value.strip() for value in getattr(when, key)):
            refuse("expected texts that are not empty", f"{at}.{key}")
    for over, under in (("longer", "shorter"), ("tokens_over", "tokens_under")):
        least, most = getattr(when, over), getattr(when, under)
        if most is not None and most <= (0 if least is None else least + 1):
            above = "" if least is None else f" and more than {least}"
            refuse(f"no size is less than {most}{above}: it can never hold", f"{at}.{under}")
    if when.foreign is not None and not 0 < when.foreign <= 1:
        refuse(f"expected a share above 0 and up to 1, got {when.foreign:g}", f"{at}.foreign")
    if when.intent is not None and not any(text.strip() for text in when.intent.examples):
        refuse("expected at least one example, got none", f"{at}.intent.examples")
    for i, id in enumerate(when.keys):
        if id not in ids:
            there = f"expected the id of a configured key, {one_of(id, ids)}" if ids else "no API key is configured"
            refuse(f"{there}: it can never hold, got {shown(id)}", f"{at}.keys[{i}]")
    for key in ("headers", "header_patterns"):
        for name in getattr(when, key):
            if name != name.lower() or not name.strip():
                refuse(f"expected a header's name in lower case, got {shown(name)}", f"{at}.{key}")


def _check_acts(rule: Rule, pool: Sequence[Member], index: Mapping[str, int], refuse: Refuse, at: str) -> None:
    if not (rule.pin or rule.forbid or rule.local or rule.route or rule.prefer or rule.choice):
        refuse("expected one of pin, forbid, local, route, prefer, choice; got none", at)
    for key in ("pin", "forbid", "route", "prefer"):
        value = getattr(rule, key)
        for name in [value] if isinstance(value, str) else value or ():
            if name not in index:
                refuse(f"expected a member, {one_of(name, index)}, got {shown(name)}", f"{at}.{key}")
    for name, points in rule.prefer.items():
        if not -1 <= points <= 1 or points == 0:
            refuse(f"expected quality points from -1 to 1 that are not 0, got {points:g}", f"{at}.prefer.{name}")
    if rule.pin and (rule.route or rule.prefer):
        refuse("it pins one member: `route` and `prefer` would choose among several", f"{at}.pin")
    barred = barred_by(rule, pool, index)
    why = "`local`" if rule.local and not rule.forbid else "`forbid`"
    for name in (rule.pin,) if rule.pin else ():
        if index[name] in barred:
            refuse(f"it pins {name!r}, which its own {why} rules out", f"{at}.pin")
    for name in rule.prefer:
        if index[name] in barred:
            refuse(f"it prefers {name!r}, which its own {why} rules out", f"{at}.prefer.{name}")
    if rule.route and all(index[name] in barred for name in rule.route):
        refuse(f"its own {why} rules out all of these", f"{at}.route")


def _check_that_it_can_act(
    at: int, rules: Sequence[Rule], pool: Sequence[Member], index: Mapping[str, int], refuse: Refuse
) -> None:
    """Refuse a rule whose acts never count, whatever is asked."""
    rule, key = rules[at], f"$.routing.rules[{at}]"
    chosen = [index[name] for name in ((rule.pin,) if rule.pin else rule.route)]
    for other in rules:
        if other is not rule and chosen and covers(other.when, rule.when):
            barred = barred_by(other, pool, index)
            if all(member in barred for member in chosen):
                act = "pin" if rule.pin else "route"
                refuse(f"rule {other.name!r} holds whenever this one does, and forbids what it chooses", f"{key}.{act}")
    if rule.forbid or rule.local or rule.choice:
        return  # these count beside others
    for other in rules[:at]:
        if other.pin and covers(other.when, rule.when) and not _may_be_barred(index[other.pin], rules, pool, index):
            why = f"rule {other.name!r}, before it, holds whenever this one does, and pins {other.pin!r}"
            refuse(f"it can never act: {why}", key)


def _may_be_barred(member: int, rules: Sequence[Rule], pool: Sequence[Member], index: Mapping[str, int]) -> bool:
    return any(member in barred_by(rule, pool, index) for rule in rules)
