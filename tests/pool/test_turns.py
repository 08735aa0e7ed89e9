"""Whose turn it is: engines load side by side where none measures what another takes, and none before all are read."""

import asyncio
from contextlib import AsyncExitStack

import pytest

from router.pool.turns import Loader, Turns, at_once, in_time
from tests.conftest import until


def loader(name: str, *devices: str, sized: bool = False) -> Loader:
    return Loader(name, devices, sized)


@pytest.mark.parametrize(
    ("one", "other", "disturbs"),
    [
        (loader("a", "0"), loader("b", "1"), False),
        (loader("a", "0", "1"), loader("b", "1"), True),
        (loader("a", "0", sized=True), loader("b", "0", sized=True), False),
        (loader("a", "0", sized=True), loader("b", "0"), True),
        (loader("a"), loader("b", "1"), True),
        (loader("a"), loader("b"), True),
        (loader("a", sized=True), loader("b", sized=True), False),
    ],
)
def test_engines_disturb_one_another_where_one_measures_a_device_that_both_use(
    one: Loader, other: Loader, disturbs: bool
) -> None:
    assert one.disturbs(other) is other.disturbs(one) is disturbs


class Starts:
    """Starts of engines, each ended by hand."""

    def __init__(self, turns: Turns) -> None:
        self._turns = turns
        self._ends: dict[str, asyncio.Event] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.loading: list[str] = []

    async def begin(self, one: Loader, *, read: bool = True) -> None:
        self._ends[one.name] = asyncio.Event()
        self._tasks[one.name] = asyncio.create_task(self._start(one, read))
        await settle()

    async def end(self, name: str) -> None:
        self._ends[name].set()
        await self._tasks[name]
        await settle()

    async def cancel(self, name: str) -> None:
        self._tasks[name].cancel()
        await asyncio.gather(self._tasks[name], return_exceptions=True)
        await settle()

    async def _start(self, one: Loader, read: bool) -> None:
        async with self._turns.start(one) as load:
            if read:
                await load()
                self.loading.append(one.name)
            await self._ends[one.name].wait()
        if one.name in self.loading:
            self.loading.remove(one.name)


async def settle() -> None:
    """Let tasks that wait for nothing else run on."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_on_one_device_one_loads_after_the_other_and_on_another_at_once() -> None:
    starts = Starts(Turns())
    for one in (loader("a", "0"), loader("b", "0"), loader("c", "1"), loader("d", "0")):
        await starts.begin(one)
    assert starts.loading == ["a", "c"]
    await starts.end("a")
    assert starts.loading == ["c", "b"]
    await starts.end("b")
    assert starts.loading == ["c", "d"]


async def test_sized_engines_of_one_device_load_together_and_wait_behind_one_that_measures() -> None:
    starts = Starts(Turns())
    for one in (loader("a", "0", sized=True), loader("b", "0"), loader("c", "0", sized=True)):
        await starts.begin(one)
    assert starts.loading == ["a"]  # c came after b, which would else wait for ever
    await starts.end("a")
    assert starts.loading == ["b"]
    await starts.end("b")
    assert starts.loading == ["c"]
    await starts.begin(loader("d", "0", sized=True))
    assert starts.loading == ["c", "d"]


async def test_none_of_the_first_loads_before_the_arguments_of_all_are_read_or_it_has_failed() -> None:
    starts = Starts(Turns(("a", "b", "c")))
    await starts.begin(loader("a", "0"))
    await starts.begin(loader("b", "1"), read=False)
    await starts.begin(loader("c", "2"))
    assert starts.loading == []
    await starts.end("b")
    assert sorted(starts.loading) == ["a", "c"]


async def test_a_host_that_never_reads_its_arguments_holds_the_others_up_for_a_while_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    starts = Starts(Turns(("a", "b"), patience_s=0.1))
    await starts.begin(loader("b", "1"), read=False)
    await starts.begin(loader("a", "0"))
    assert starts.loading == []
    await until(lambda: starts.loading == ["a"])
    assert "the other engines load: b did not come as far as their arguments" in caplog.text


async def test_a_start_that_is_given_up_while_it_waits_or_loads_lets_the_next_go_on() -> None:
    starts = Starts(Turns())
    for name in "abc":
        await starts.begin(loader(name, "0"))
    await starts.cancel("b")
    assert starts.loading == ["a"]
    await starts.cancel("a")
    assert "c" in starts.loading


async def test_only_so_many_hosts_import_at_once() -> None:
    turns = Turns(imports=2)
    async with AsyncExitStack() as stack:
        load = await stack.enter_async_context(turns.start(loader("a", "0")))
        await stack.enter_async_context(turns.start(loader("b", "1")))
        starts = Starts(turns)
        await starts.begin(loader("c", "2"))
        assert starts.loading == []
        await load()  # it imports no more
        await settle()
        assert starts.loading == ["c"]
        await starts.end("c")


async def test_the_time_that_others_take_to_load_is_not_counted() -> None:
    turns = Turns()
    async with turns.start(loader("a", "0")) as first:
        await first()
        waited = asyncio.create_task(loads_in_time(turns))
        await asyncio.sleep(1.5)  # longer than it may take itself
        assert not waited.done()
    await waited


async def loads_in_time(turns: Turns) -> None:
    async with in_time(lambda: turns.start(loader("b", "0")), 1.0) as load:
        await load()


async def test_a_host_that_does_not_come_as_far_as_its_turn_is_given_up_in_time() -> None:
    with pytest.raises(TimeoutError):
        async with in_time(at_once, 0.01):
            await asyncio.sleep(60)
    with pytest.raises(TimeoutError):
        async with in_time(at_once, 0.01) as load:
            await load()
            await asyncio.sleep(60)


async def test_a_start_that_fails_ends_its_own_turn_not_that_of_another_of_the_same_name_and_devices() -> None:
    turns = Turns()
    first, second = Starts(turns), Starts(turns)
    await first.begin(loader("a", "0"))
    await second.begin(loader("a", "0"), read=False)
    await second.cancel("a")
    await second.begin(loader("b", "0"))
    assert (first.loading, second.loading) == (["a"], [])
    await first.end("a")
    assert second.loading == ["b"]
    await second.end("b")
