"""Which member, and which of its engines, has a stored answer. Its id tells, after a restart of ours too; a small table
knows the ids that clients choose themselves.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from router.errors import BadRequest, NotFound
from router.ipc.response_ids import Holder, holder, holder_of
from router.policy import Settings
from router.pool.base import PoolMember
from router.pool.engine import EngineMember
from router.pool.replicas import Replicas, engines_of
from router.types import Query

#: Ids that clients chose; over it the oldest are forgotten. Longer ones are not kept.
MOST_OWN = 10_000
MOST_ID_CHARACTERS = 256


class Holders:
    """Finds the member of a stored answer, in one pool."""

    def __init__(self, pool: Callable[[], Sequence[PoolMember]]) -> None:
        self._pool = pool
        self._own: OrderedDict[str, str] = OrderedDict()  #: engine's name by id

    def note(self, id: str, engine: PoolMember) -> None:
        """The answer that a client calls `id` is made there."""
        if len(id) <= MOST_ID_CHARACTERS:
            self._own[id] = engine.status().name
            self._own.move_to_end(id)
            if len(self._own) > MOST_OWN:
                self._own.popitem(last=False)

    def rule(self, query: Query, settings: Settings) -> Settings:
        """As `settings`, at the member that has the answer which `query` speaks of. Raises `NotFound` where nobody has
        it any more, `BadRequest` where the query names another member."""
        found = self._find(query.response_id, query.kind, settings)
        if found is None:
            return settings
        member = found[0]
        if settings.rule == "pinned" and not self._means(settings.pinned, member):
            name = self._pool()[member].state().name
            why = f"response {query.response_id!r} is stored by {name!r}, not by {query.model[:200]!r}"
            raise BadRequest(f"`previous_response_id`: {why}", param="previous_response_id")
        return msgspec.structs.replace(settings, rule="pinned", pinned=member)

    def engine(self, query: Query, settings: Settings) -> PoolMember | None:
        """Of the several engines of the member that `settings` pin, the only one that can answer `query`: it has the
        stored answer, or the adapter. None: any of them can. Raises `NotFound`."""
        if settings.rule != "pinned" or not (query.response_id or query.adapter):
            return None
        group = self._pool()[settings.pinned]
        if not isinstance(group, Replicas):
            return None
        if query.response_id:
            found = self._find(query.response_id, query.kind, settings)
            return None if found is None else found[1]
        able = [engine for engine in group.engines if query.adapter in engine.adapters]
        return None if len(able) in (0, len(group.engines)) else Replicas(group.model, tuple(able)).idlest()

    def _means(self, named: int, member: int) -> bool:
        """Whether who names the one means the other: a canary answers as the member that it stands for."""
        state = self._pool()[member].state()
        return named == member or (state.canary_weight > 0 and state.canary_of == named)

    def _find(self, id: str, kind: str, settings: Settings) -> tuple[int, PoolMember | None] | None:
        """The member, and which of its engines, None for any. None: whoever `settings` name is to say what it knows of
        it."""
        found = holder_of(id)
        if found is not None and (made := self._made_by(id, found)) is not None:
            return made
        own = self._own.get(id)
        able = [(i, engine) for i, engine in self._engines() if _stores(engine, kind)]
        named = next(((i, engine) for i, engine in able if engine.status().name == own), None)
        if named is not None:
            return named
        if settings.rule == "pinned":
            return None
        if len(members := {i for i, _ in able}) == 1:
            return members.pop(), None
        raise NotFound(f"Response with id {id[:MOST_ID_CHARACTERS]!r} not found.", param="response_id")

    def _made_by(self, id: str, found: Holder) -> tuple[int, PoolMember] | None:
        """None where no member of ours has made it. Raises `NotFound` where it was lost."""
        lost, may_have = "", None
        for i, engine in self._engines():
            if not isinstance(engine, EngineMember):
                continue
            now = holder(engine.answers_as, engine.process_id)  # a canary answers as its member does
            if now.member == found.member:
                if engine.process_id and now.process == found.process:
                    return i, engine
                if engine.process_id:
                    lost = engine.answers_as
                else:
                    may_have = may_have or (i, engine)
        if may_have is not None:
            return may_have
        if lost:
            why = f"the engine of {lost!r}, which had stored it, was started anew since"
            raise NotFound(f"response {id!r} is gone: {why}", param="response_id", code="response_gone")
        return None

    def _engines(self) -> list[tuple[int, PoolMember]]:
        return [(i, engine) for i, member in enumerate(self._pool()) for engine in engines_of(member)]


def _stores(member: PoolMember, kind: str) -> bool:
    """Whether it may have answers of clients; those of a URL can be gone on from, not asked for."""
    return (isinstance(member, EngineMember) or kind != "stored") and "responses" in member.state().capabilities
