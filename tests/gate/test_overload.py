"""More clients than slots and places, on a clock of the test: some obey `Retry-After`, some ask again at once."""

import random
from typing import Any

import pytest

from router.errors import Overloaded

#: Between two tries of a client that obeys nothing, as a share of a request's mean time.
GREEDY_SHARE = 0.01
#: `retry-after` is in whole seconds.
WHOLE_S = 1.0


class Client:
    """Asks until it is served, and again after that as a new request."""

    def __init__(self, world: "World", name: str, *, obeys: bool, header: str) -> None:
        self.world, self.name, self.obeys, self.header = world, name, obeys, header
        self.served = 0
        self.tries = 0  #: of the request under way
        self.most_tries = 0
        self.number = 0

    def ask(self) -> None:
        self.tries += 1
        try:
            permit = self.world.gate.take("", f"{self.name} {self.number}".encode())
        except Overloaded as error:
            self.refused(error)
            return
        if permit.waiting:
            permit.wait(lambda: self.begin(permit), self.refused)
        else:
            self.begin(permit)

    def refused(self, error: Any) -> None:
        wait_s = error.retry_after_s
        assert 0 < wait_s <= 600
        if not self.obeys:
            wait_s = GREEDY_SHARE * self.world.mean_s
        elif self.header == "retry-after":
            wait_s = max(WHOLE_S, -(-wait_s // WHOLE_S))
        self.world.loop.call_later(wait_s + self.world.source.random() * 0.005, self.ask)

    def begin(self, permit: Any) -> None:
        self.world.most_running = max(self.world.most_running, self.world.gate.slots.running)
        self.world.loop.call_later(self.world.request_s(), lambda: self.end(permit))

    def end(self, permit: Any) -> None:
        permit.settle()
        self.served += 1
        self.most_tries = max(self.most_tries, self.tries)
        self.tries = 0
        self.number += 1
        self.world.loop.call_later(0.001, self.ask)


class World:
    """A pool that takes `mean_s` for a request, and clients that ask it for ever."""

    def __init__(self, kit: Any, *, mean_s: float = 2.0, header: str = "retry-after-ms", **limits: Any) -> None:
        made = kit(**limits)
        self.gate, self.loop, self.metrics = made.gate, made.loop, made.metrics
        self.source = random.Random(1)
        self.mean_s = mean_s
        self.header = header
        self.most_running = 0
        self.clients: list[Client] = []

    def request_s(self) -> float:
        return self.source.uniform(0.5, 1.5) * self.mean_s

    def served(self) -> int:
        return sum(client.served for client in self.clients)

    def add(self, count: int, *, obeys: bool) -> list[Client]:
        new = [Client(self, f"{obeys} {i}", obeys=obeys, header=self.header) for i in range(count)]
        self.clients += new
        for client in new:
            self.loop.call_later(self.source.random() * 0.01, client.ask)
        return new


@pytest.mark.parametrize("header", ["retry-after", "retry-after-ms"])
@pytest.mark.parametrize(("obeying", "greedy"), [(80, 80), (150, 10), (10, 150), (160, 0)])
def test_of_160_clients_of_64_slots_each_that_obeys_gets_slots_as_often_as_those_that_do_not(
    kit: Any, obeying: int, greedy: int, header: str
) -> None:
    world = World(kit, in_flight=64, header=header)
    good, bad = world.add(obeying, obeys=True), world.add(greedy, obeys=False)
    world.loop.run_for(40.0)  # 8 requests a client, on average
    assert world.most_running == 64
    assert world.served() > 0.9 * 64 * 40.0 / world.mean_s, "no slot stays idle"
    assert min(client.served for client in good) >= 3
    assert max(client.most_tries for client in good) <= 15
    if greedy:
        means = [sum(client.served for client in some) / len(some) for some in (good, bad)]
        assert means[0] > 0.7 * means[1]


@pytest.mark.parametrize("mean_s", [0.5, 8.0, 60.0])
def test_a_client_that_obeys_is_served_soon_after_it_was_told_to_come_however_long_requests_take(
    kit: Any, mean_s: float
) -> None:
    world = World(kit, in_flight=16, mean_s=mean_s)
    world.add(40, obeys=False)
    world.loop.run_for(5 * mean_s)  # the rate is known by then
    good = world.add(4, obeys=True)
    world.loop.run_for(10 * mean_s)
    assert min(client.served for client in good) >= 2
    assert max(client.most_tries for client in good) <= 10


def test_slots_given_up_by_clients_that_never_come_back_go_to_the_others(kit: Any) -> None:
    world = World(kit, in_flight=16)
    world.add(24, obeys=False)
    refused = 0
    for i in range(1000):
        world.loop.run_for(0.01)
        try:
            world.gate.take("", b"once %d" % i).settle()
        except Overloaded:
            refused += 1
    assert refused > 500
    world.loop.run_for(30.0)
    assert world.served() > 0.9 * 16 * 40.0 / world.mean_s
    assert min(client.served for client in world.clients) >= 3
