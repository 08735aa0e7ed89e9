"""Several engines of one model as one member of the pool. Each of them is started, watched, placed and drained as any
other engine; which of them a request goes to is decided natively (`router.native.fleet`).

Knows no scores and no policy.
"""

from collections.abc import Sequence

import msgspec

from router.config import Member, groups, model_name
from router.native.lane import Lane
from router.pool.base import Call, MemberStatus, PoolMember, Work
from router.pool.engine import EngineMember
from router.pool.laned import Laned
from router.types import MemberState


class Replicas:
    """Implements `PoolMember`, for who decides: its engines are started and stopped one by one."""

    def __init__(self, model: str, engines: tuple[EngineMember, ...]) -> None:
        """`engines`: in the order of their names."""
        self.model = model
        self.engines = engines

    def submit(self, work: Work, call: Call) -> None:
        """To the one that has least to do, of what no decision has been made for."""
        self.idlest().submit(work, call)

    def abort(self, call: Call) -> None:
        for engine in self.engines:
            engine.abort(call)

    def state(self) -> MemberState:
        """Of the engine that has least to do: the model is ready while one of its engines is."""
        return self.idlest().state()

    def status(self) -> MemberStatus:
        return msgspec.structs.replace(self.idlest().status(), name=self.model)

    async def start(self) -> None:
        for engine in self.engines:
            await engine.start()

    async def stop(self) -> None:
        for engine in self.engines:
            await engine.stop()

    def idlest(self) -> EngineMember:
        """Of those that take requests, where one does."""

        def ahead(engine: EngineMember) -> tuple[bool, bool, int]:
            state = engine.state()
            return not state.ready, state.breaker_open, state.running + state.waiting

        return min(self.engines, key=ahead)


def by_model(config: Sequence[Member], pool: Sequence[PoolMember]) -> tuple[PoolMember, ...]:
    """One member a model, in the order of `config.models`, of `pool`, which is in the order of `config`."""
    made: list[PoolMember] = []
    for indices in groups(config):
        engines = tuple(engine for i in indices if isinstance(engine := pool[i], EngineMember))
        several = len(indices) > 1
        made.append(Replicas(model_name(config[indices[0]]), engines) if several else pool[indices[0]])
    return tuple(made)


def engines_of(member: PoolMember) -> tuple[PoolMember, ...]:
    """The engines of a model; a member that is no group is its own."""
    return member.engines if isinstance(member, Replicas) else (member,)


def lanes_of(pool: Sequence[PoolMember]) -> list[list[Lane]] | None:
    """By model, those of its engines; None where a member has none."""
    found = [[engine.lane for engine in engines_of(member) if isinstance(engine, Laned)] for member in pool]
    return found if found and all(found) else None
