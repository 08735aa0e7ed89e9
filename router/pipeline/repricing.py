"""Prices at work: twice a second what the pool and its answers say is told to `policy.prices`, and what follows is told
to the members and to whoever decides. Never in a request's way. The only place that knows the prices' clock.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from typing import Final, Protocol

from router.config import RESERVED_NAMES, Config, Member, device_names, model_name, models
from router.native import policy as native
from router.native.steering import Steering
from router.observe.ledger import Ledger
from router.observe.metrics import Metrics
from router.observe.tick import Tick, Told
from router.pipeline.decider import Decider
from router.pipeline.desk import PoolDesk
from router.pipeline.ends import told_of
from router.pipeline.intake import Intake
from router.pipeline.price_families import price_families
from router.policy import Settings
from router.policy.prices import OF_TTFT, Answers, MemberSeen, Prices, PricesTold, Seen
from router.pool import PoolMember
from router.pool.laned import Laned
from router.types import Query, Scores, Snapshot

log = logging.getLogger("headgate.prices")

TICK_S: Final = 0.5
#: A larger pool is looked at less often: a look takes some microseconds a member.
_MEMBERS_A_TICK: Final = 200
#: At most so often it is said that an objective is not held.
SAID_EVERY_S: Final = 60.0
#: Weight of the newest answer in what answers cost over what was expected.
_NEW: Final = 0.05
_MOST_RATIO: Final = 100.0
_NOTHING = Query(kind="chat", model="", turns=())


class Priced(Protocol):
    """Whose prices they are."""

    config: Config
    intake: Intake | None
    ledger: Ledger
    metrics: Metrics

    @property
    def pool(self) -> tuple[PoolMember, ...]:
        """Each engine, in the config's order."""
        ...


class Repricing:
    """Of one router's pool, which may change."""

    def __init__(self, router: Priced, decider: Decider, desk: PoolDesk) -> None:
        self._router, self._decider, self._desk = router, decider, desk
        routing = router.config.routing
        self.prices = Prices(router.config.objective, routing.price, routing.slo_ttft_s)
        self.steering = Steering()
        self._ended: dict[str, Answers] = {}
        self._spent_ratio = 1.0
        self._cost_due = True  #: of one answer a look it is read what it cost, which takes a record
        self._said_s = -math.inf
        self._lost = ""  #: the share's member, where it has left the pool
        self._unsubscribe: Callable[[], None] | None = None
        self._task: asyncio.Task[None] | None = None
        router.metrics.watch_prices(lambda: price_families(self.told()))
        self.follow()

    def start(self) -> None:
        """Twice a second, from now on."""
        if self._task is None:
            self.step(time.monotonic())  # what is decided from now on is seen
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def follow(self) -> None:
        """The config, or the pool, is another one from now on."""
        config, router = self._router.config, self._router
        objective, self._devices = config.objective, devices_of(config)
        self.prices.aim(objective, config.routing.price, config.routing.slo_ttft_s)
        at, self._lost = -1, ""
        if objective.kind == "share":
            names = [member.name for member in models(config.pool)]
            at = names.index(objective.member) if objective.member in names else -1
            self._lost = "" if at >= 0 else str(objective.member)
        self.steering.hold(at, objective.share or 0.0, objective.of == "tokens")
        self.steering.adds = objective.kind in ("budget", "quality")
        steering = self.steering if objective.kind in ("share", "budget", "quality") else None
        self._desk.steering = steering
        if self._desk.fleet is not None:
            self._desk.fleet.steering = steering
        listens = objective.kind in ("budget", "slo") or self.steering.by_tokens
        if not listens and self._unsubscribe is not None:
            self._unsubscribe()
            self._unsubscribe = None
        elif listens and self._unsubscribe is None:
            self._unsubscribe = router.ledger.subscribe(self.heard)
        self._apply()

    def told(self) -> PricesTold:
        return self.prices.told()

    # What is heard

    def heard(self, tick: Tick) -> None:
        """Answers that have ended."""
        objective = self._router.config.objective
        ttft_ms, tpot_ms = objective.ttft_ms, objective.tpot_ms
        costs, self._cost_due = self._cost_due and objective.kind == "budget", False
        for told in tick.told(told_of, costs=costs):
            missed = _beyond(told.ttft_s, ttft_ms) or _beyond(told.tpot_s, tpot_ms)
            unforeseen = missed and not self._foreseen(told)
            before = self._ended.get(told.model, Answers(0, 0, 0))
            self._ended[told.model] = Answers(before.ended + 1, before.missed + missed, before.unforeseen + unforeseen)
            if isinstance(told.numbers, native.Numbers) and self.steering.by_tokens:
                told.numbers.settle(self.steering, told.tokens)
            if told.cost_usd and told.expected_usd:
                ratio = min(told.cost_usd / told.expected_usd, _MOST_RATIO)
                self._spent_ratio += _NEW * (ratio - self._spent_ratio)

    def _foreseen(self, told: Told) -> bool:
        """What was predicted of this answer, which missed the SLO, was at risk, so that prices act upon it."""
        objective = self._router.config.objective
        if not isinstance(told.numbers, native.Numbers) or told.numbers.member < 0:
            return False
        wait_s = told.numbers.column("wait_s")[told.numbers.member]
        token_s = told.numbers.record().members.get("time_per_output_token_s", ())
        late = objective.ttft_ms is not None and _beyond(wait_s, OF_TTFT * objective.ttft_ms)
        return late or (bool(token_s) and _beyond(token_s[told.numbers.member], objective.tpot_ms))

    # A step

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(min(TICK_S * max(1.0, len(self._router.pool) / _MEMBERS_A_TICK), 2.0))
            try:
                self.step(time.monotonic())
            except Exception:  # prices stay as they are: requests go on
                log.exception("the prices could not be set anew; they stay as they are")

    def step(self, now_s: float) -> None:
        """Look, set the prices anew, and apply them."""
        ended, self._ended, self._cost_due = self._ended, {}, True
        sums = None if self._desk.steering is None else self.steering.sums()
        seen = Seen(members=self._members(), sums=sums, answers=ended, spent_ratio=self._spent_ratio)
        self.prices.step(now_s, seen)
        self._apply()
        broken = f"the member {self._lost!r}, which is to get a share, has left the pool" if self._lost else ""
        if (broken := broken or self.prices.goal.broken) and now_s - self._said_s >= SAID_EVERY_S:
            self._said_s = now_s
            log.warning("objective: %s", broken)

    def _members(self) -> list[MemberSeen]:
        pool, config = self._router.pool, self._router.config
        snapshot = Snapshot(tuple([member.state() for member in pool]))
        empty = Scores((0.0,) * len(pool), 0)
        waits_s = native.decide(_NOTHING, empty, snapshot, Settings()).column("wait_s") if pool else ()
        return [
            MemberSeen(
                name=each.name,
                model=model_name(each),
                devices=devices,
                takes_requests=state.ready and not _sleeps(member),
                wait_s=wait_s if isinstance(wait_s, float) else math.nan,
                output_token_s=state.time_per_output_token_s,
            )
            for each, member, state, devices, wait_s in zip(
                config.pool, pool, snapshot.members, self._devices, waits_s, strict=True
            )
        ]

    def _apply(self) -> None:
        prices = self.prices
        for member, devices in zip(self._router.pool, self._devices, strict=False):
            if isinstance(member, Laned):
                member.charge(*prices.surcharge(devices))
        changed = self._decider.steer(prices.goal.price, prices.goal.price_of, prices.shed_ttft_s)
        if changed and self._router.intake is not None:
            self._router.intake.decide_auto_by(RESERVED_NAMES, self._decider.names.known[RESERVED_NAMES[0]])


def _beyond(seconds: object, most_ms: float | None) -> bool:
    """False for what is not known."""
    return most_ms is not None and isinstance(seconds, int | float) and seconds * 1e3 > most_ms


def devices_of(config: Config) -> tuple[tuple[tuple[str, float], ...], ...]:
    """The devices of each member, with what one costs an hour as it was bought. A URL's machine is a device of its own;
    so is this machine's processor, and all devices together where they are not known."""
    return tuple(_devices_of(member, config) for member in config.pool)


def _devices_of(member: Member, config: Config) -> tuple[tuple[str, float], ...]:
    if member.kind == "openai":
        return ((f"url:{member.name}", member.usd_per_hour),)
    names = device_names(member) or ("machine",)
    return tuple((name, _usd_of(member, name, config)) for name in names)


def _usd_of(member: Member, name: str, config: Config) -> float:
    settings = config.devices.get(name)
    usd = None if settings is None else settings.usd_per_hour
    return member.usd_per_hour if usd is None else usd


def _sleeps(member: PoolMember) -> bool:
    return isinstance(member, Laned) and member.wakeable
