"""Whoever wants more than its share of the loop's time waits, and goes on in an order that leaves nobody out."""

import asyncio

from router.frontend.turns import FIRST_SHARE_S, SHARE_S, TURN_S, Turns


class Asker:
    """Works for a whole share in each of `shares` turns."""

    def __init__(self, turns: Turns, name: str, shares: int, order: list[str]) -> None:
        self.turns, self.name, self.shares, self.order = turns, name, shares, order

    def go_on(self) -> None:
        assert self.turns.share() > 0.0
        self.order.append(self.name)
        self.shares -= 1
        self.turns.spent_s += SHARE_S
        if self.shares:
            self.turns.later(self, first=False)


async def test_a_turn_has_a_bound_and_what_is_left_is_done_in_the_next_ones() -> None:
    turns, order, turned = Turns(), list[str](), list[int]()
    for number in range(100):
        turns.later(Asker(turns, str(number), 1, order), first=True)
    while turns:
        await asyncio.sleep(0)
        turned.append(len(order))
    assert order == [str(number) for number in range(100)]
    most = round(TURN_S / SHARE_S) + 1
    assert all(now - before <= most for before, now in zip([0, *turned], turned, strict=False))


async def test_who_has_much_to_do_waits_behind_who_comes_for_the_first_time() -> None:
    turns, order = Turns(), list[str]()
    for _ in range(1000):
        turns.later(Asker(turns, "many", 10, order), first=False)
    turns.later(Asker(turns, "new", 1, order), first=True)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert "new" in order[:2]


async def test_who_has_much_to_do_goes_on_while_others_keep_coming() -> None:
    turns, order = Turns(), list[str]()
    turns.later(Asker(turns, "many", 10, order), first=False)
    for _ in range(30):
        for _ in range(20):
            turns.later(Asker(turns, "new", 1, order), first=True)
        await asyncio.sleep(0)
    assert order.count("many") == 10


async def test_without_time_left_there_is_no_share_until_the_loop_has_turned() -> None:
    turns, order = Turns(), list[str]()
    turns.spent_s += TURN_S
    assert turns.share() == 0.0
    turns.later(Asker(turns, "late", 1, order), first=True)
    assert order == []
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert order == ["late"]


async def test_what_one_raises_does_not_keep_the_others_waiting() -> None:
    turns, order, told = Turns(), list[str](), list[str]()

    class Broken:
        def go_on(self) -> None:
            raise RuntimeError("broken")

    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(str(context["exception"])))
    turns.later(Broken(), first=True)
    turns.later(Asker(turns, "other", 1, order), first=True)
    async with asyncio.timeout(60):
        while turns:
            await asyncio.sleep(0)
    assert order == ["other"]
    assert told == ["broken"]


async def test_the_first_request_of_a_connection_gets_a_small_share_and_the_next_ones_a_large_one() -> None:
    """Behind a thousand connections that have much to do, another one waits for a thousand small shares."""

    class Shown:
        def __init__(self) -> None:
            self.shares: list[float] = []

        def go_on(self) -> None:
            self.shares.append(turns.share())
            if len(self.shares) < 3:
                turns.later(self, first=False)

    turns, shown = Turns(), Shown()
    turns.later(shown, first=True)
    while turns:
        await asyncio.sleep(0)
    assert shown.shares[0] <= FIRST_SHARE_S < SHARE_S / 4
    assert turns.share() > FIRST_SHARE_S
    assert len(shown.shares) == 3
