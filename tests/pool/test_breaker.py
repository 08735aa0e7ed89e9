"""The breaker's states, and whose faults count."""

import pytest

from router.pool.breaker import Breaker
from router.pool.failure import is_members_fault


def opened() -> Breaker:
    breaker = Breaker(3, 10.0)
    for _ in range(3):
        breaker.failed(100.0)
    return breaker


def test_opens_at_consecutive_failures_only() -> None:
    breaker = Breaker(3, 10.0)
    for _ in range(10):
        breaker.failed(0.0)
        breaker.failed(0.0)
        breaker.succeeded()
    assert breaker.state == "closed"
    assert not breaker.is_open(0.0)
    assert opened().is_open(100.0)


def test_lets_one_probe_through_after_a_while() -> None:
    breaker = opened()
    assert breaker.is_open(109.9)
    assert not breaker.is_open(110.0)
    breaker.submitted(110.0)
    assert breaker.is_open(110.0)
    assert not breaker.is_open(120.0), "a probe that is never answered must not keep it open for ever"


@pytest.mark.parametrize("well", [True, False])
def test_the_probe_decides(well: bool) -> None:
    breaker = opened()
    breaker.submitted(110.0)
    if well:
        breaker.succeeded()
        assert breaker.state == "closed"
    else:
        breaker.failed(111.0)
        assert breaker.is_open(120.9)
        assert not breaker.is_open(121.0)


def test_late_failures_of_an_outage_do_not_prolong_it() -> None:
    breaker = opened()
    breaker.failed(109.0)
    assert not breaker.is_open(110.0)


def test_submissions_to_a_closed_breaker_do_nothing() -> None:
    breaker = Breaker(1, 10.0)
    breaker.submitted(0.0)
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    ("status", "fault"),
    [(400, False), (404, False), (422, False), (429, False), (500, True), (502, True), (503, False)],
)
def test_a_clients_error_is_not_the_members_fault(status: int, fault: bool) -> None:
    assert is_members_fault(status) is fault
