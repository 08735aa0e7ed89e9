"""Which member answers a request of `types.MEMBER_ROUTES`: the one asked for by name, else the only one that can.

Quality plays no part. A member that cannot is refused with what it can do, and with who could. Knows no HTTP.
"""

from collections.abc import Sequence

import msgspec

from router.errors import BadRequest, NoEngine
from router.pipeline.listed import listed
from router.pipeline.model_names import Adapters, Names
from router.policy import Settings
from router.types import API_PATHS, MEMBER_ROUTES, Kind, MemberState, Query

#: Kinds whose member is found here.
WHOLE = frozenset(kind for kind, route in MEMBER_ROUTES.items() if not route.decided)
#: What a request of other kinds needs of its member, where one is asked for by name.
_NEEDED: dict[Kind, str] = {
    "chat": "chat",
    "completions": "completions",
    "responses": "responses",
    "messages": "messages",
    "count_tokens": "messages",
    "chat_batch": "chat_batch",
}


def settled(query: Query, asked: Settings, states: Sequence[MemberState], pooling: frozenset[int]) -> Settings:
    """How to decide for `query`, whose `model` means `asked`, where `pooling` are the indices of pooling models. Raises
    `BadRequest`, `NoEngine`."""
    if query.kind in WHOLE:
        return _whole(query.kind, asked, states)
    needed = _NEEDED.get(query.kind)
    if asked.rule == "pinned":
        state = states[asked.pinned]
        lacks = query.kind in MEMBER_ROUTES and state.capabilities and needed not in state.capabilities
        if needed and (asked.pinned in pooling or lacks):
            able = [i for i, other in enumerate(states) if needed in other.capabilities]
            raise _refusal(query.kind, states, asked.pinned, able)
        return asked
    if len(pooling) < len(states):  # a tokenizer is theirs too: left open, it is that of a model that generates text
        return asked if needed else msgspec.structs.replace(asked, excluded=asked.excluded | pooling)
    if needed:
        why = f"no model of the pool generates text{_what_there_is(states)}"
        raise BadRequest(why, param="model", code="unsupported")
    return asked


def abilities_of(names: Names, states: Sequence[MemberState], adapters: Adapters) -> dict[str, frozenset[str]]:
    """By each name what the members can do that it may mean."""
    every = frozenset().union(*(state.capabilities for state in states))
    able = {adapter.name: state.capabilities for i, state in enumerate(states) for adapter in adapters.of(i)}
    return able | {
        name: states[asked.pinned].capabilities if asked.rule == "pinned" else every
        for name, asked in names.known.items()
    }


def _whole(kind: Kind, asked: Settings, states: Sequence[MemberState]) -> Settings:
    able = [i for i, state in enumerate(states) if kind in state.capabilities and not state.canary_weight]
    if asked.rule == "pinned":
        if states[asked.pinned].capabilities and kind not in states[asked.pinned].capabilities:
            raise _refusal(kind, states, asked.pinned, able)
        return asked
    path = API_PATHS[kind]
    if len(able) == 1:
        return msgspec.structs.replace(asked, rule="pinned", pinned=able[0])
    if able:
        names = listed([states[i].name for i in able])
        why = f"several models answer {path}, and none is chosen by quality; name one in `model`: {names}"
        raise BadRequest(why, param="model", code="model_required")
    if any(not state.capabilities for state in states):
        raise NoEngine(f"no model that is up answers {path}; others have not started", retry_after_s=1.0)
    raise BadRequest(f"no model of the pool answers {path}{_what_there_is(states)}", param="model", code="unsupported")


def _refusal(kind: Kind, states: Sequence[MemberState], asked: int, able: Sequence[int]) -> BadRequest:
    """Of the member at index `asked`; those that are `able` could."""
    does = _paths(states[asked])
    why = f"model {states[asked].name!r} does not answer {API_PATHS[kind]}" + (f", but {does}" if does else "")
    who = f"{listed([states[i].name for i in able])} can" if able else "no model of the pool can"
    return BadRequest(f"{why}; {who}", param="model", code="unsupported")


def _paths(state: MemberState) -> str:
    """The routes that a member answers."""
    return ", ".join(path for kind, path in API_PATHS.items() if kind in state.capabilities)


def _what_there_is(states: Sequence[MemberState]) -> str:
    there = [f"{state.name}: {_paths(state)}" for state in states if state.capabilities]
    return f"; there are {listed(there, by='; ')}" if there else ""
