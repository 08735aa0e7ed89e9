"""Which member has a stored answer. Its id tells, after a restart of ours too; a small table knows the ids that clients
choose themselves.
"""

from collections import OrderedDict
from collections.abc import Callable, Sequence

import msgspec

from router.errors import BadRequest, NotFound
from router.ipc.response_ids import Holder, holder, holder_of
from router.policy import Settings
from router.pool.base import PoolMember
from router.pool.engine import EngineMember
from router.types import Query

#: Ids that clients chose; over it the oldest are forgotten. Longer ones are not kept.
MOST_OWN = 10_000
MOST_ID_CHARACTERS = 256


class Holders:
    """Finds the member of a stored answer, in one pool."""

    def __init__(self, pool: Callable[[], Sequence[PoolMember]]) -> None:
        self._pool = pool
        self._own: OrderedDict[str, str] = OrderedDict()  #: member's name by id

    def note(self, id: str, member: str) -> None:
        """The answer that a client calls `id` is made by this member."""
        if len(id) <= MOST_ID_CHARACTERS:
            self._own[id] = member
            self._own.move_to_end(id)
            if len(self._own) > MOST_OWN:
                self._own.popitem(last=False)

    def rule(self, query: Query, settings: Settings) -> Settings:
        """As `settings`, at the member that has the answer which `query` speaks of. Raises `NotFound` where nobody has
        it any more, `BadRequest` where the query names another member."""
        member = self._member_of(query.response_id, query.kind, settings)
        if settings.rule == "pinned" and member is not None and not self._means(settings.pinned, member):
            name = self._pool()[member].status().name
            why = f"response {query.response_id!r} is stored by {name!r}, not by {query.model[:200]!r}"
            raise BadRequest(f"`previous_response_id`: {why}", param="previous_response_id")
        return settings if member is None else msgspec.structs.replace(settings, rule="pinned", pinned=member)

    def _means(self, named: int, member: int) -> bool:
        """Whether who names the one means the other: a canary answers as the member that it stands for."""
        state = self._pool()[member].state()
        return named == member or (state.canary_weight > 0 and state.canary_of == named)

    def _member_of(self, id: str, kind: str, settings: Settings) -> int | None:
        """None: whoever `settings` name is to say what it knows of it."""
        found = holder_of(id)
        if found is not None and (member := self._made_by(id, found)) is not None:
            return member
        own = self._own.get(id)
        able = [i for i, member in enumerate(self._pool()) if _stores(member, kind)]
        named = next((i for i in able if self._pool()[i].status().name == own), None)
        if named is not None:
            return named
        if settings.rule == "pinned":
            return None
        if len(able) == 1:
            return able[0]
        raise NotFound(f"Response with id {id[:MOST_ID_CHARACTERS]!r} not found.", param="response_id")

    def _made_by(self, id: str, found: Holder) -> int | None:
        """None where no member of ours has made it. Raises `NotFound` where it was lost."""
        lost = ""
        for i, member in enumerate(self._pool()):
            if not isinstance(member, EngineMember):
                continue
            now = holder(member.answers_as, member.process_id)  # a canary answers as its member does
            if now.member == found.member:
                if not member.process_id or now.process == found.process:
                    return i
                lost = member.answers_as
        if lost:
            why = f"the engine of {lost!r}, which had stored it, was started anew since"
            raise NotFound(f"response {id!r} is gone: {why}", param="response_id", code="response_gone")
        return None


def _stores(member: PoolMember, kind: str) -> bool:
    """Whether it may have answers of clients; those of a URL can be gone on from, not asked for."""
    return (isinstance(member, EngineMember) or kind != "stored") and "responses" in member.state().capabilities
