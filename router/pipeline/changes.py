"""Members that come and go while requests run. One change at a time:

    checked -> (old one stopped first) -> new ones started -> in one step the pool is another -> old ones drain and stop

What fails before that step leaves the pool as it was. Who drains does not hold up the next change. Knows no HTTP.
"""

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from router import config as configuration
from router.config import Config, Member
from router.errors import BadRequest, ConfigError, Conflict, HeadgateError, ModelNotFound, NoEngine
from router.pipeline import pool_plan
from router.pipeline.change import TOKEN_FILE, Change, Wanted, token_of
from router.pipeline.decider import Ways
from router.pipeline.listed import listed
from router.pipeline.pool_config import config_after, expanded_by_member
from router.pipeline.pool_plan import Plan
from router.pipeline.scoring import Scoring
from router.pool import build
from router.pool.base import MemberStatus, PoolMember
from router.pool.environment import Machine
from router.pool.file_names import generation_in
from router.pool.laned import Laned
from router.pool.supervisor import Supervisor
from router.types import MemberState

log = logging.getLogger("headgate.pool")

_LOOK_S = 0.05
_MOST_KEPT = 32
_SOURCE = "the change"


class Keeper(Protocol):
    """Who serves with the pool."""

    config: Config

    @property
    def pool(self) -> tuple[PoolMember, ...]: ...

    def ways(self, config: Config, scoring: Scoring) -> Ways:
        """How decisions would be made for another pool. Raises `ConfigError`."""
        ...

    def hold(self, ways: Ways, pool: tuple[PoolMember, ...]) -> None:
        """Serve with another pool from now on, in one step."""
        ...


class Changes:
    """Begins and follows the changes of one pool's members. Called from the event loop's thread."""

    def __init__(
        self,
        keeper: Keeper,
        supervisor: Supervisor,
        asked: tuple[Member, ...],
        folder: Path,
        machine: Machine,
        host_command: tuple[str, ...] | None,
    ) -> None:
        """`asked`: the pool as its file says it. `folder`: private; a token that others cannot read is put there."""
        self._keeper = keeper
        self._supervisor = supervisor
        self._asked = self._of_file = asked
        self._folder = folder
        self._machine = machine
        self._host_command = host_command
        self._expanded = expanded_by_member(keeper.config)
        self._recent: deque[Change] = deque(maxlen=_MOST_KEPT)
        self._current: Change | None = None
        self._running: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._joining: list[PoolMember] = []
        self._leaving: list[PoolMember] = []
        self._count = 0
        self._stopped = False
        self.barred = ""  #: why none may begin now; empty: one may
        self.token_file = str(folder / TOKEN_FILE)
        self.token = token_of(folder / TOKEN_FILE)

    # What is so

    @property
    def recent(self) -> tuple[Change, ...]:
        """The last changes, the one under way among them."""
        return tuple(self._recent)

    @property
    def joining(self) -> tuple[MemberStatus, ...]:
        """Members that are started, and no part of the pool yet."""
        return tuple(member.status() for member in self._joining)

    @property
    def leaving(self) -> tuple[MemberStatus, ...]:
        """Members that are no part of the pool any more, and still have requests."""
        return tuple(member.status() for member in self._leaving)

    def require_none(self) -> None:
        """Raises `ConfigError` while a change is under way."""
        if self._current is not None:
            raise ConfigError(f"a change of the pool is under way ({self._current.told}): try again after it")

    @property
    def under_way(self) -> str:
        """What changes, or still ends; empty where nothing does."""
        if self._current is not None:
            return f"a change of the pool is under way ({self._current.told})"
        return f"member {self.leaving[0].name!r} still has requests, and ends" if self._leaving else ""

    # What is asked for

    def begin(self, verb: str, name: str, wanted: Wanted) -> Change:
        """Begin what an operator asks for, and return how far it is. Raises `RouterError`; nothing has changed then."""
        self._require_open()
        if verb in ("drain", "resume"):
            return self._drain(name, drained=verb == "drain")
        if verb in ("remove", "promote", "rollback"):
            if wanted.member is not None:
                raise BadRequest(f"{verb} takes no `member`")
            plans = {"remove": pool_plan.remove, "promote": pool_plan.promote, "rollback": pool_plan.roll_back}
            return self._begin(plans[verb](self._asked, name), {})
        if wanted.member is None:
            raise BadRequest(f"{verb}: expected `member`, with the keys that it has in a config file", param="member")
        try:
            one = configuration.build_member({"name": name, **wanted.member}, source=_SOURCE)
        except ConfigError as error:
            raise BadRequest(str(error)) from error
        except RecursionError:
            raise BadRequest("`member`: it is nested too deeply", param="member") from None
        if verb == "add":
            plan = pool_plan.add(self._asked, one.pool)
        else:
            plan = pool_plan.replace(self._asked, name, one.pool, stop_first=wanted.stop_first)
        told = expanded_by_member(one)
        by_name = {member.name: told.get(member.name, ()) for member in one.pool}
        return self._begin(plan, by_name, one.secret_variables)

    def reread(self, config: Config) -> Change | None:
        """Begin what a config file, read anew, asks for; None where it asks for nothing of the pool. Raises
        `ConfigError` or `RouterError`; nothing has changed then."""
        self._require_open()
        self.require_none()
        plan = pool_plan.reread(self._asked, self._of_file, config.pool)
        if plan is None:
            return None
        return self._begin(plan, expanded_by_member(config), config.secret_variables, file=config)

    def cancel(self) -> Change:
        """Give up the change under way, whose engines have not all started. Raises `Conflict` where there is none."""
        if self._current is None or self._running is None:
            raise Conflict("no change of the pool is under way")
        if self._current.error:
            raise Conflict(f"{self._current.named} is given up already: {self._current.error}")
        self._running.cancel("it was cancelled")
        return self._current

    async def stop(self) -> None:
        """Give up what is under way. What it started is stopped."""
        self._stopped = True
        tasks = [*self._tasks, *([self._running] if self._running is not None else [])]
        for task in tasks:
            task.cancel("the server ends")
        await asyncio.gather(*tasks, return_exceptions=True)

    # How it is done

    def _require_open(self) -> None:
        if self._stopped:
            raise NoEngine("the server is shutting down")
        if self.barred:
            raise Conflict(f"{self.barred}: try again after it", code="change_under_way")

    def _drain(self, name: str, *, drained: bool) -> Change:
        engines = self._called(name)
        if not engines:
            there = listed([member.name for member in self._keeper.config.pool])
            raise ModelNotFound(f"no member {name[:200]!r}; there are {there}")
        for engine in engines:
            assert isinstance(engine, Laned)
            engine.drain(drained)
        log.info("member %r %s", name, "gets no new requests" if drained else "gets requests again")
        return self._noted(Change(id=0, what="drain" if drained else "resume", member=name, stage="done"))

    def _begin(
        self,
        plan: Plan,
        expanded: Mapping[str, tuple[str, ...]],
        secret_variables: Iterable[str] = (),
        file: Config | None = None,
    ) -> Change:
        if self._current is not None:
            raise Conflict(
                f"another change of the pool is under way ({self._current.told}): try again after it",
                code="change_under_way",
            )
        now = self._keeper.config
        wanted = now if file is None else file
        try:
            after = {"pool": plan.pool, "routing": wanted.routing, "objective": wanted.objective}
            configuration.check(msgspec.structs.replace(now, **after), _SOURCE)
            started = tuple(member for member in plan.pool if member.name not in plan.kept)
            configuration.check_models(msgspec.structs.replace(now, pool=started), _SOURCE)
            self._require_able(plan)
            known = {**self._expanded, **expanded}
            config = config_after(now, plan, self._machine, known, secret_variables, file)
        except ConfigError as error:
            if plan.what == "reload":
                raise
            raise BadRequest(str(error)) from error
        change = self._current = self._noted(Change(id=0, what=plan.what, member=plan.member))
        self._running = asyncio.create_task(
            self._run(change, plan, config, self._of_file if file is None else file.pool)
        )
        return change

    async def _run(self, change: Change, plan: Plan, config: Config, of_file: tuple[Member, ...]) -> None:
        joined: list[PoolMember] = []
        stopped: list[PoolMember] = []
        try:
            scoring = await asyncio.to_thread(
                Scoring.load, config.routing.checkpoint, configuration.models(config.pool)
            )
            ways = self._keeper.ways(config, scoring)
            if plan.stop_first:
                change.stage, olds = "stopping", self._called(plan.stop_first)
                with _drained_as_before(olds):
                    change.cut += sum(await asyncio.gather(*map(self._emptied, olds)))
                    for old in olds:
                        stopped.append(old)
                        await _whole(self._supervisor.leave(old))
            change.stage = "starting"
            started = self._built(config, plan)
            for member in started.values():
                self._joining = [member]
                await self._supervisor.join(member)
                joined.append(member)
            gone = self._swap(ways, plan, started)
        except BaseException as error:
            await self._undo(change, error, joined, stopped)
            if not isinstance(error, Exception):
                raise
            return
        finally:
            self._joining = []
            self._running = self._current = None
        self._asked, self._of_file, self._expanded = plan.pool, of_file, expanded_by_member(config)
        log.info("the pool has changed (%s): %s", change.named, listed([member.name for member in plan.pool]))
        if gone := [member for member in gone if not any(member is each for each in stopped)]:
            change.stage = "draining"
            task = asyncio.create_task(self._let_go(change, gone))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            change.stage = "done"

    async def _undo(
        self, change: Change, error: BaseException, joined: list[PoolMember], stopped: list[PoolMember]
    ) -> None:
        """Back to the pool as it was."""
        back = f"{change.member!r} is started again" if stopped else "the pool is as it was"
        change.error = f"{error}; {back}"
        if isinstance(error, HeadgateError | asyncio.CancelledError):
            log.error("the pool stays as it was (%s): %s", change.named, error)
        else:
            change.error = f"{type(error).__name__}: {change.error}"
            log.exception("the pool stays as it was (%s)", change.named)
        for member in joined:
            await self._supervisor.leave(member)
        for old in stopped if not self._stopped else ():
            self._supervisor.revive(old, f"it was to be replaced, and was not: {error}")
        change.stage = "failed"

    def _swap(self, ways: Ways, plan: Plan, started: Mapping[str, PoolMember]) -> list[PoolMember]:
        """The one step. Those that are no part of the pool any more; they get no new requests."""
        before = dict(zip((member.name for member in self._keeper.config.pool), self._keeper.pool, strict=True))
        pool = tuple(
            before[plan.kept[member.name]] if member.name in plan.kept else started[member.name]
            for member in ways.config.pool
        )
        gone = [member for member in self._keeper.pool if not any(member is each for each in pool)]
        self._keeper.hold(ways, pool)
        for member in gone:
            self._supervisor.release(member)
            if isinstance(member, Laned):
                member.drain(True)
        return gone

    async def _let_go(self, change: Change, gone: list[PoolMember]) -> None:
        """Each ends once its last request has, or its time is over."""
        self._leaving += gone
        try:
            for cut in await asyncio.gather(*map(self._ended, gone)):
                change.cut += cut
        finally:
            change.stage = "done"

    async def _ended(self, member: PoolMember) -> int:
        try:
            return await self._emptied(member)
        finally:
            await self._supervisor.leave(member)
            self._leaving = [each for each in self._leaving if each is not member]

    async def _emptied(self, member: PoolMember) -> int:
        """Without new requests, until it has none or `limits.drain_s` is over; how many it still has."""
        if isinstance(member, Laned):
            member.drain(True)
        until_s = time.monotonic() + self._keeper.config.server.limits.drain_s
        # Looked for, as each end of a request would pay for telling it.
        while (left := member.status().in_flight) and time.monotonic() < until_s:  # noqa: ASYNC110
            await asyncio.sleep(_LOOK_S)
        return left

    def _built(self, config: Config, plan: Plan) -> dict[str, PoolMember]:
        """Those that are to be started, by name."""
        names = [member.name for member in config.pool if member.name not in plan.kept]
        # Another process may have started some in this folder, and handed them to us.
        self._count = 1 + max(self._count, generation_in(self._folder))
        environment = configuration.inherited_environment(config)
        made = build(
            config,
            self._folder,
            environment,
            self._machine,
            host_command=self._host_command,
            only=set(names),
            generation=self._count,
        )
        return dict(zip(names, made, strict=True))

    def _require_able(self, plan: Plan) -> None:
        """A pool, or a name, that answers nothing is no end of a change, nor of its first half. Raises `Conflict`."""
        kept = {plan.kept[member.name] for member in plan.pool if member.name in plan.kept and not member.replaces}
        pairs = zip(self._keeper.config.pool, self._keeper.pool, strict=True)
        states = {member.name: runs.state() for member, runs in pairs}
        ready = [name for name in kept if states[name].ready]
        starts = any(member.name not in plan.kept and not member.replaces for member in plan.pool)
        if not ready and (plan.stop_first or not starts):
            raise Conflict(f"no other member of the pool takes requests ({plan.what} of {plan.member!r})")
        if plan.what == "promote":
            heirs = [each for new, old in plan.kept.items() if new != old for each in self._called(old)]
            here = any(engine.state().ready for engine in self._called(plan.member))
            if here and not any(engine.state().ready for engine in heirs):
                who = heirs[0].status()
                raise Conflict(
                    f"{who.name!r} takes no requests ({who.phase}), {plan.member!r} does: that would be gone"
                )
        if plan.stop_first:
            able = _abilities([states[name] for name in ready])
            own = _abilities([engine.state() for engine in self._called(plan.stop_first)])
            if missing := sorted(own - able):
                raise Conflict(f"{plan.stop_first!r} is the only member that takes requests of {', '.join(missing)}")

    def _called(self, name: str) -> list[PoolMember]:
        """The engine of this name, or all engines of the model."""
        pairs = zip(self._keeper.config.pool, self._keeper.pool, strict=True)
        return [runs for member, runs in pairs if name in (member.name, configuration.model_name(member))]

    def _noted(self, change: Change) -> Change:
        change.id, change.began_s = self._recent[-1].id + 1 if self._recent else 1, time.time()
        self._recent.append(change)
        return change


@contextlib.contextmanager
def _drained_as_before(members: Sequence[PoolMember]) -> Iterator[None]:
    """They may go on, or be started again."""
    drained = [(member, member.drained) for member in members if isinstance(member, Laned)]
    try:
        yield
    finally:
        for member, was_drained in drained:
            member.drain(was_drained)


def _abilities(states: Sequence[MemberState]) -> frozenset[str]:
    return frozenset[str]().union(*(state.capabilities for state in states))


async def _whole(work: Coroutine[Any, Any, None]) -> None:
    """Of what must not be left half done: cancelled, it ends before this does."""
    task = asyncio.ensure_future(work)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await task
        raise
