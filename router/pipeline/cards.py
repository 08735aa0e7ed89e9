"""The pool as clients and operators see it: cards of `/v1/models`, and each member's status."""

from collections.abc import Sequence

import msgspec

from router.config import RESERVED_NAMES, Member
from router.pipeline.model_names import Adapters
from router.pipeline.service import MemberStatus, ModelCard
from router.pool import PoolMember


def cards_of(
    pool: Sequence[Member],
    members: Sequence[PoolMember],
    adapters: Adapters,
    strong: int,
    created: int,
    *,
    auto: bool,
) -> tuple[ModelCard, ...]:
    """`auto` first, where it is listed, shown as the strongest member; then every name of each of `pool`, and its
    adapters."""
    states = [member.state() for member in members]
    known = {state.name: state.context_tokens for state in states}
    cards: list[ModelCard] = []
    if auto:
        root = pool[strong].model or pool[strong].name
        cards.append(ModelCard(id=RESERVED_NAMES[0], root=root, created=created))
    for i, member in enumerate(pool):
        about = ModelCard(
            id=member.name,
            root=member.model or member.name,
            created=created,
            context_tokens=known.get(member.name, member.context_tokens),
        )
        cards += [msgspec.structs.replace(about, id=name) for name in (member.name, *member.also)]
        cards += [
            ModelCard(id=adapter.name, root=adapter.path, parent=member.name, created=created)
            for adapter in adapters.of(i)
        ]
    return tuple(cards)


def statuses_of(pool: Sequence[Member], members: Sequence[PoolMember]) -> tuple[MemberStatus, ...]:
    """Of a router that only decides there are none."""
    return tuple(
        msgspec.structs.replace(runs.status(), replaces=member.replaces, weight=member.weight)
        if member.replaces
        else runs.status()
        for member, runs in zip(pool, members, strict=False)
    )
