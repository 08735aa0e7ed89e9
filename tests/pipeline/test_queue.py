"""Requests of the library that wait for a slot: the same queue as that of the doors."""

from typing import Any

import pytest

from router.config import Limits, Server
from router.errors import DeadlineExceeded, NoEngine, Overloaded
from router.ipc.messages import Done
from tests.conftest import until
from tests.pipeline.conftest import query

ONE_SLOT = Server(limits=Limits(in_flight=1, queue_requests=2))


def end(call: Any) -> None:
    call.chunk(b"a")
    call.receiver.done(Done(id=1))


async def test_a_request_waits_for_the_slot_and_is_decided_when_it_has_it(two: Any) -> None:
    pool = two(server=ONE_SLOT)
    pool.submit()
    pool.sink = sink = type(pool.sink)()
    waits = pool.submit(body=b"12345")
    assert (pool.router.in_flight(), len(pool.large.calls), waits.decision) == (2, 1, None)
    assert pool.router.pending_bytes == len(b'{"messages": []}12345')
    pool.large.phase = "failed"
    pool.large.calls[0].receiver.chunk(b"a")
    pool.large.calls[0].receiver.done(Done(id=1))
    await until(lambda: pool.small.calls)
    end(pool.small.calls[0])
    assert (sink.decision.model, sink.chunks, sink.violations) == ("small", [b"a"], [])
    assert (pool.router.in_flight(), pool.router.pending_bytes, pool.router.gate.slots.running) == (0, 0, 0)


async def test_no_engine_when_its_turn_comes_ends_it_with_that_error(two: Any) -> None:
    pool = two(server=ONE_SLOT)
    first = pool.submit()
    pool.submit()
    pool.large.phase = pool.small.phase = "failed"
    first.cancel()
    await until(lambda: pool.sink.end)
    assert isinstance(pool.sink.end, NoEngine)
    assert (pool.router.in_flight(), pool.router.pending_bytes, pool.router.gate.slots.running) == (0, 0, 0)


async def test_a_head_that_raises_when_its_turn_comes_ends_it_with_an_internal_error(two: Any) -> None:
    pool = two(server=ONE_SLOT)
    first = pool.submit()
    pool.submit()
    pool.router._decider.scoring.score = lambda query: 1 / 0
    first.cancel()
    await until(lambda: pool.sink.end)
    assert str(pool.sink.end) == "internal error; the server's log says more"
    assert (pool.router.in_flight(), pool.router.pending_bytes, pool.router.gate.slots.running) == (0, 0, 0)


async def test_its_deadline_ends_the_waiting(two: Any) -> None:
    pool = two(server=ONE_SLOT)
    pool.submit()
    pool.submit(deadline_s=0.02)
    await until(lambda: pool.sink.end)
    assert isinstance(pool.sink.end, DeadlineExceeded)
    assert (pool.router.in_flight(), pool.router.gate.slots.waiting) == (1, 0)


async def test_a_request_that_gives_up_is_never_begun(two: Any) -> None:
    pool = two(server=ONE_SLOT)
    first = pool.submit()
    pool.submit().cancel()
    last = pool.submit()
    first.cancel()
    await until(lambda: len(pool.large.calls) == 2)
    last.cancel()
    assert (pool.router.in_flight(), pool.router.pending_bytes, pool.router.gate.slots.running) == (0, 0, 0)
    assert pool.sink.end is None


async def test_a_stop_ends_those_that_wait_with_an_error(two: Any) -> None:
    pool = two(server=ONE_SLOT)
    pool.submit().cancel()
    pool.submit()
    waits = two(server=ONE_SLOT)
    runs, waits.sink = waits.submit(), type(waits.sink)()
    waits.submit()
    assert (runs.phase, waits.router.gate.slots.waiting) == ("waiting", 1)
    await waits.router.stop()
    assert str(waits.sink.end) == "the server is shutting down"
    assert waits.router.gate.slots.waiting == 0
    with pytest.raises(NoEngine, match="the server is shutting down"):
        waits.submit()
    await pool.router.stop()


async def test_a_permit_from_before_the_stop_starts_nothing_after_it(two: Any) -> None:
    """A large body is read in a thread meanwhile; a request accepted then would be in no journal."""
    pool = two()
    permit = pool.router.gate.take("", b"{}")
    await pool.router.stop()
    with pytest.raises(NoEngine, match="the server is shutting down") as refused:
        pool.router.submit(query("auto"), b"{}", pool.sink, permit=permit)
    assert refused.value.retry_after_s == 5.0
    assert (pool.router.in_flight(), pool.large.calls, pool.small.calls) == (0, [], [])


async def test_a_request_that_has_waited_too_long_is_refused(two: Any) -> None:
    pool = two(server=Server(limits=Limits(in_flight=1, queue_requests=1, queue_s=0.02)))
    pool.submit()
    pool.submit()
    await until(lambda: pool.sink.end)
    assert isinstance(pool.sink.end, Overloaded)
    assert "no slot became free within 0.02 s" in str(pool.sink.end)
    assert (pool.router.in_flight(), pool.router.gate.slots.running) == (1, 1)


async def test_the_ledger_tells_how_long_it_waited_and_how_it_ended(two: Any) -> None:
    pool = two(server=Server(limits=Limits(in_flight=1, queue_requests=3, queue_s=30.0)))
    records: list[Any] = []
    pool.router.ledger.subscribe(records.extend)
    pool.submit(request_id="first")
    pool.submit(request_id="served")
    left = pool.submit(request_id="left")
    pool.submit(request_id="late", deadline_s=0.03)
    await until(lambda: isinstance(pool.sink.end, DeadlineExceeded))
    left.cancel()
    pool.sink.end = None
    end(pool.large.calls[0])
    await until(lambda: len(pool.large.calls) == 2)
    pool.sink.decision, pool.sink.end = None, None
    end(pool.large.calls[1])
    await until(lambda: len(records) == 4)
    told = {record.request_id: (record.end, record.status, record.queue_s > 0.02) for record in records}
    assert told == {
        "first": ("finish", 200, False),
        "served": ("finish", 200, True),
        "left": ("cancel", 499, True),
        "late": ("error", 504, True),
    }
    assert all(record.overhead_s < record.queue_s for record in records if record.request_id == "served")
    assert pool.sink.violations == []
