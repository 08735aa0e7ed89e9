"""Requests that were accepted for one pool and are decided for the next."""

from typing import Any

import msgspec

from router.config import Limits, Member, Routing, Server
from router.errors import EngineFailed, ModelNotFound
from router.ipc.messages import Done
from router.pool.base import Failure
from tests.conftest import until

Kit = Any


def hold(router: Any, kit: Kit, *members: Any) -> None:
    """The pool is `members` from now on, the last one the best."""
    pool = tuple(Member(name=member.name, model=f"org/{member.name}") for member in members)
    quality = [i / len(members) for i in range(len(members))]
    config = msgspec.structs.replace(router.config, pool=pool)
    router.hold(router.ways(config, kit.Scoring(*quality)), tuple(members))


async def test_what_runs_in_a_member_that_leaves_is_aborted_there_and_ends_there(two: Any, kit: Kit) -> None:
    pair = two()
    request = pair.submit()
    (call,) = pair.large.calls
    hold(pair.router, kit, pair.small, kit.Member("new"))
    request.cancel()
    assert call.aborted == 1
    other = kit.Sink()
    pair.router.submit(kit.query(), b'{"messages": []}', other)
    assert len(pair.large.calls) == 1
    await pair.router.stop()


async def test_a_request_to_a_member_that_was_stopped_goes_to_its_successor_also_by_name(two: Any, kit: Kit) -> None:
    pair = two()
    pair.submit(model="large")
    successor = kit.Member("large")
    hold(pair.router, kit, successor, pair.small)  # in another order, too
    pair.large.calls[0].receiver.fail(Failure(EngineFailed("the engine was stopped"), retryable=True))
    (call,) = successor.calls
    call.receiver.chunk(b"x")
    call.receiver.done(Done(id=0))
    assert (pair.sink.chunks, pair.sink.violations) == ([b"x"], [])
    await pair.router.stop()


async def test_a_request_by_a_name_that_is_gone_fails_as_its_member_did(two: Any, kit: Kit) -> None:
    pair = two()
    pair.submit(model="large")
    hold(pair.router, kit, pair.small)
    pair.large.calls[0].receiver.fail(Failure(EngineFailed("the engine was stopped"), retryable=True))
    assert str(pair.sink.end) == "the engine was stopped"
    await pair.router.stop()


async def test_a_request_that_waited_for_a_slot_is_decided_for_the_pool_that_there_is(two: Any, kit: Kit) -> None:
    pair = two(server=Server(limits=Limits(in_flight=1, queue_requests=8)))
    pair.submit()
    waiting, gone = kit.Sink(), kit.Sink()
    pair.router.submit(kit.query(), b'{"messages": []}', waiting)
    pair.router.submit(kit.query("large"), b'{"messages": []}', gone)
    new = kit.Member("new")
    hold(pair.router, kit, pair.small, new)
    pair.large.calls[0].receiver.done(Done(id=0))
    await until(lambda: new.calls)
    new.calls[0].receiver.done(Done(id=0))
    await until(lambda: gone.end)
    assert isinstance(gone.end, ModelNotFound)
    assert len(pair.large.calls) == 1
    await pair.router.stop()


async def test_scores_of_a_pool_that_is_no_more_are_made_again(two: Any, kit: Kit) -> None:
    pair = two()
    pair.router._decider.scoring.slow = True
    pair.submit()
    assert pair.large.calls == []
    third = kit.Member("third")
    hold(pair.router, kit, pair.small, pair.large, third)
    await until(lambda: third.calls)
    assert pair.sink.end is None
    await pair.router.stop()


async def test_no_reload_of_routing_is_lost_or_mixed_up_with_a_change(two: Any, kit: Kit) -> None:
    pair = two()
    hold(pair.router, kit, pair.small, pair.large, kit.Member("third"))
    pair.router.reload(Routing(price=7.0))
    assert len(pair.router.config.pool) == 3
    assert pair.router._decider.names.settings("auto").price == 7.0
    assert pair.router.decide("x").model == "third"
