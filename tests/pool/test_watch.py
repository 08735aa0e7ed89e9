"""Engines that answer live, however late our timers are; engines that hang are found in time. On a simulated clock."""

import random
from types import SimpleNamespace

import pytest

from router.config import Supervision
from router.pool import supervisor as supervisor_module
from router.pool.supervisor import Supervisor
from router.pool.watch import Watch

DEFAULT = Supervision()
PONG_S = 0.0002  #: from a ping to its answer
SEED = 20260601


class Engine:
    """An idle host: it speaks only when asked, and not at all once it hangs."""

    name = "idle"

    def __init__(self, clock: list[float]) -> None:
        self.clock = clock
        self.last_heard_s = clock[0]
        self.hangs = False
        self.pings = 0
        self.killed = ""

    def ping(self) -> None:
        self.pings += 1
        if not self.hangs:
            self.last_heard_s = self.clock[0] + PONG_S

    def kill(self, why: str) -> None:
        self.killed = why


def kills_of_an_idle_engine(ping_s: float, ping_timeout_s: float, lateness_s: list[float], hours: float) -> int:
    """Looks come by turns as late as `lateness_s` says. The engine answers each ping after `PONG_S`."""
    watch = Watch(ping_s, ping_timeout_s)
    look = watch.look
    now = heard = 1000.0
    end = now + 3600.0 * hours
    kills = 0
    steps = [watch.interval_s + late_s for late_s in lateness_s]
    while now < end:
        for step in steps:
            now += step
            verdict = look(now, heard)
            if verdict == "ask":
                heard = now + PONG_S
            elif verdict == "hung":
                kills += 1
    return kills


def test_ten_thousand_hours_of_default_settings_and_timers_up_to_200_ms_late_kill_no_idle_engine() -> None:
    source = random.Random(SEED)
    lateness_s = [source.choice((0.0, 0.001, source.uniform(0.0, 0.2))) for _ in range(9973)]
    assert kills_of_an_idle_engine(DEFAULT.ping_s, DEFAULT.ping_timeout_s, lateness_s, 10_000) == 0


@pytest.mark.parametrize("ping_s", [0.05, 0.2, 0.5, 1.0, 5.0, 29.0, 30.0, 31.0, 60.0, 600.0])
@pytest.mark.parametrize("ping_timeout_s", [0.3, 1.2, 5.0, 30.0, 31.0])
@pytest.mark.parametrize("late_s", [-0.001, 0.0, 0.0001, 0.001, 0.2, 3.0, 60.0], ids="{} s late".format)
def test_no_pair_of_settings_and_no_lateness_kills_an_idle_engine(
    ping_s: float, ping_timeout_s: float, late_s: float
) -> None:
    assert kills_of_an_idle_engine(ping_s, ping_timeout_s, [late_s, late_s, 0.0], 1) == 0


@pytest.mark.parametrize("stopped_s", [10.0, 600.0, 86_400.0])
@pytest.mark.parametrize("settings", [DEFAULT, Supervision(ping_s=5, ping_timeout_s=5), Supervision(ping_timeout_s=1)])
def test_the_time_in_which_our_own_process_was_stopped_is_not_the_engines_silence(
    settings: Supervision, stopped_s: float
) -> None:
    """The answer lies in the socket, unread: the first look after the stop, and even the second, come before it."""
    watch = Watch(settings.ping_s, settings.ping_timeout_s)
    look_s = watch.interval_s
    now = heard = 0.0
    verdicts = []
    for step_s in (look_s, look_s, stopped_s, 0.0):
        now += step_s
        verdicts.append(watch.look(now, heard))
    assert "hung" not in verdicts
    heard = now
    assert [watch.look(now + i * look_s, heard) for i in range(1, 4)].count("hung") == 0


@pytest.mark.parametrize(
    ("settings", "bound_s"),
    [
        (DEFAULT, 30.0),
        (Supervision(ping_s=0.5, ping_timeout_s=3.0), 3.0),
        (Supervision(ping_s=5.0, ping_timeout_s=5.0), 5.0),
        (Supervision(ping_s=60.0, ping_timeout_s=30.0), 30.0),
        (Supervision(ping_s=4.0, ping_timeout_s=30.0), 30.0),
    ],
)
@pytest.mark.parametrize("late_s", [0.0, 0.05, 0.2])
def test_an_engine_that_hangs_is_killed_within_ping_timeout_s_of_its_last_word(
    settings: Supervision, bound_s: float, late_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(supervisor_module, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    engine, watching = Engine(clock), Supervisor((), settings)
    look_s = Watch(settings.ping_s, settings.ping_timeout_s).interval_s
    looks = round(settings.ping_timeout_s / look_s)
    hung_s = 1000.0 + 10 * settings.ping_s
    while not engine.killed:
        clock[0] += look_s + late_s
        if clock[0] > hung_s and not engine.hangs:
            engine.hangs = True
        watching._look_at(engine)  # type: ignore[arg-type]
    silent_s = clock[0] - engine.last_heard_s
    assert bound_s - look_s - 1e-3 <= silent_s <= bound_s + (looks + 1) * late_s + 1e-6
    assert f"it was silent for {clock[0] - engine.last_heard_s:.0f} s and was killed" == engine.killed


def test_an_engine_that_talks_is_asked_nothing_before_it_is_silent() -> None:
    watch = Watch(60.0, 30.0)
    assert [watch.look(t, t - 0.1) for t in (6.0, 12.0, 18.0)] == ["wait"] * 3
    assert watch.look(80.0, 18.0) == "ask"


def test_a_word_of_any_kind_after_the_ping_is_an_answer() -> None:
    watch = Watch(5.0, 30.0)
    assert watch.look(10.0, 0.0) == "ask"
    for late_s in (15.0, 20.0, 25.0, 30.0):
        assert watch.look(late_s, 0.0) == "wait"
    assert watch.look(35.0, 31.0) == "ask"
    assert watch.look(40.0, 31.0) == "wait"
