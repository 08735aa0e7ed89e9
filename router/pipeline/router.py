"""The pipeline: admit -> decide -> submit -> continue. The only place that knows scoring, policy and pool together.

Knows no HTTP; `frontend` and the library submit to it. All calls come from one event loop's thread.
"""

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from router import config as configuration
from router.config import Config, Member, Objective, Routing
from router.errors import ArgumentsRefused, EngineStartError, NoEngine
from router.gate.gate import Gate
from router.gate.permit import Permit
from router.heads import Placement
from router.ipc.spec import EngineCall
from router.native.request import Requests
from router.observe.engine_metrics import EngineMetrics
from router.observe.feedback import Feedback
from router.observe.journal import Journal
from router.observe.ledger import Ledger
from router.observe.metrics import Metrics
from router.pipeline.adapters import PoolAdapters
from router.pipeline.batch.batches import Batches, batches_of
from router.pipeline.cards import cards_of, statuses_of
from router.pipeline.changes import Changes
from router.pipeline.conversation import Conversation, query_of
from router.pipeline.decider import Decider, Ways, decider_of
from router.pipeline.desk import PoolDesk
from router.pipeline.estate import Estate, Heritage, journal_lock, runtime_folder, settle
from router.pipeline.ids import process_id
from router.pipeline.legs.wiring import planner_of
from router.pipeline.library import ChatStream, Completion, ask, complete
from router.pipeline.native_intake import fleet_of, follow, hear_engines, hold, intake_of
from router.pipeline.operate import metrics_of, operate
from router.pipeline.pool_config import refusal_in_file
from router.pipeline.record import Ended
from router.pipeline.repricing import Repricing
from router.pipeline.request import Request
from router.pipeline.scoring import Scoring
from router.pipeline.service import MemberStatus, ModelCard
from router.pipeline.sink import Sink
from router.pipeline.sleeping import Sleeping
from router.pipeline.whole import abilities_of
from router.pool import PoolMember, build, place
from router.pool.engine import EngineMember
from router.pool.environment import Machine, placed, this_machine
from router.pool.folder import RuntimeFolder
from router.pool.mps import Mps, check_mps
from router.pool.replicas import by_model
from router.pool.supervisor import StartEvent, Supervisor
from router.types import Decision, Query


class Router:
    """One pool and the path to it. Implements `Service`.

        async with Router.from_config("headgate.yaml") as router:
            async for chunk in router.chat([{"role": "user", "content": "2 + 2?"}]):
                print(chunk.text, end="")

    With `start=False` nothing is started: `decide` works, on members taken to be ready and idle.
    """

    def __init__(
        self,
        config: Config,
        *,
        start: bool = True,
        metrics: Metrics | None = None,
        scoring: Scoring | None = None,
        pool: Sequence[PoolMember] | None = None,
        host_command: tuple[str, ...] | None = None,
        machine: Machine | None = None,
        on_event: Callable[[StartEvent], None] | None = None,
        heritage: Heritage | None = None,
    ) -> None:
        """Raises `ConfigError`. `pool` and `host_command` replace the members and the engine hosts' command;
        `machine`, the devices that there are; `heritage` is handed over."""
        asked = config.pool if heritage is None else heritage.asked
        if pool is None and start:
            environment = configuration.inherited_environment(config)
            self.machine = this_machine(environment) if machine is None else machine
            program = check_mps(config, self.machine.devices, environment)
            config = placed(config, self.machine, configuration.hub_folder(environment))
        self.config = config
        self.metrics = Metrics(process=False) if metrics is None else metrics
        adapters = PoolAdapters(lambda: self._desk.pool, lambda: configuration.taken_names(self.config.pool))
        self._adapters = adapters if start or pool is not None else None
        self._decider = Decider(config, scoring, self._adapters, live=start)
        self.ledger = Ledger()
        self.gate = Gate(config.server.limits, self.metrics)
        self._desk = PoolDesk(self._decider, self.metrics, self.ledger, self.gate, config.server.limits)
        self.journal: Journal | None = None
        self.feedback: Feedback | None = None
        self.batches: Batches | None = None
        self._start, self._heritage, self._on_event = start, heritage, on_event
        self._created = int(time.time())
        self._requests = Requests(self.gate.slots, self._desk, process_id, self._decider.id_prefix)
        self._folder: RuntimeFolder | None = None
        mps: Mps | None = None
        if pool is None and start:
            self._folder = runtime_folder(config.supervision.runtime_dir, heritage)
            self._forgotten = weakref.finalize(self, self._folder.remove)  # made, and never started
            if program:
                mps = Mps(program, self._folder.path, environment, None if heritage is None else heritage.mps)
                self.machine = msgspec.structs.replace(self.machine, mps=mps)
            pool = build(config, self._folder.path, environment, self.machine, host_command=host_command)
            settle(pool, heritage)
        self.pool: tuple[PoolMember, ...] = tuple(pool or ())  #: each engine, in the config's order
        if self.pool:
            place(config, self.pool)
            self._desk.pool = by_model(config.pool, self.pool)
            self._desk.fleet = fleet_of(self._desk.pool)
        self._desk.legs.follow(self._requests, config.routing, len(self.pool), planner_of(config.routing))
        if config.server.engine_metrics:
            self.metrics.watch_engines(EngineMetrics(lambda: metrics_of(self.pool)))
        self.intake = intake_of(self._requests, self._decider, self._desk.fleet, config.server)
        self._requests.wake = self.ledger.wake
        self.ledger.gather(Ended(self._requests, self.intake, self.metrics))
        self._supervisor = Supervisor(self.pool, config.supervision, mps)
        self._sleeping = Sleeping()
        hear_engines(self.pool, self._decider, self.intake)
        self._repricing = Repricing(self, self._decider, self._desk)
        self.prices = self._repricing.told
        self.changes: Changes | None = None  #: of the pool's members; None where the pool is not ours to change
        if self._folder is not None:
            self.changes = Changes(self, self._supervisor, asked, self._folder.path, self.machine, host_command)
            self.changes.barred = "the members are still being started"

    @classmethod
    def from_config(cls, config: Config | Mapping[str, Any] | str | Path, *, start: bool = True) -> "Router":
        """A router for a config, plain objects of one, or a file's path. Raises `ConfigError`."""
        if isinstance(config, str | Path):
            config = configuration.load(config)
        elif not isinstance(config, Config):
            config = configuration.build(config)
        return cls(config, start=start)

    @staticmethod
    def decider(pool: Sequence[Member], *, checkpoint: str = "default", **routing: float | None) -> Decider:
        """Decisions alone, without engines or event loop. `routing`: `price`, `threshold`, `slo_ttft_s`."""
        return decider_of(checkpoint, pool, **routing)

    # Life

    async def start(self) -> None:
        """Start the members. Raises `EngineStartError`, or `ConfigError` where vLLM refuses an argument; then nothing
        is left running."""
        if not self._start:
            return
        try:
            self.open_journal()
            self.batches = batches_of(self, self.config, self.metrics)
            await self._supervisor.start(self._on_event)
            self._repricing.start()
            if self._heritage is None:  # else once they are ours
                self.open_changes()
                self._sleeping.follow(self.config, self.pool)
        except BaseException as error:
            await self._close_journal()
            self._remove_folder(keep_logs=isinstance(error, EngineStartError))
            if isinstance(error, ArgumentsRefused):
                raise refusal_in_file(self.config.pool, error) from error
            raise

    def open_changes(self) -> None:
        """The members may change from now on. Of a router with a heritage its caller says so, once what was handed over
        is ours."""
        if self.changes is not None:
            self.changes.barred = ""

    async def stop(self) -> None:
        """End every request with an error and every engine. Idempotent."""
        self._desk.closed = True
        if self.batches is not None:
            self.batches.withdraw()
        self.gate.close()
        if self.intake is not None:
            self.intake.close()
        self._desk.close(self._requests)
        self._desk.threads.stop()
        self.ledger.tell()
        await self._close_journal()
        if self.changes is not None:
            await self.changes.stop()
        await self._sleeping.stop()
        await self._repricing.stop()
        await self._supervisor.stop()
        self._remove_folder(keep_logs=False)

    def open_journal(self) -> None:
        """Write the journal that the config asks for, from now on. Raises `ConfigError`."""
        settings = self.config.journal
        if not settings.path:
            return
        self.journal = Journal(settings, self.ledger, journal_lock(self._heritage))
        self.metrics.watch_journal(self.journal.counts)
        if settings.feedback_ids:
            names = [member.name for member in configuration.models(self.config.pool)]
            self.feedback = Feedback(self.journal, self.ledger, names, settings.feedback_ids)
            self.metrics.watch_feedback(self.feedback)
        self._requests.keeps_bodies = settings.prompts
        self._requests.holds_ends = self.ledger.holds
        if self.intake is not None:
            self.intake.batch.before = self.journal.pace(self._requests)

    async def _close_journal(self) -> None:
        """And before it the batches, whose last lines stand in it."""
        if self.batches is not None:
            await self.batches.close()
        journal, self.journal, self.feedback = self.journal, None, None
        if journal is not None:
            await journal.close()

    async def __aenter__(self) -> "Router":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def ways(self, config: Config, scoring: Scoring) -> Ways:
        """How decisions would be made for another pool. Raises `ConfigError`."""
        return self._decider.ways(config, scoring)

    def hold(self, ways: Ways, pool: tuple[PoolMember, ...]) -> None:
        """Serve with `pool`, whose config is that of `ways`, from now on: in one step. What was handed over stays where
        it is; what was not is decided anew."""
        place(ways.config, pool)
        self._desk.late.hold(self.pool, pool)
        self.config, self.pool, self._desk.pool = ways.config, pool, by_model(ways.config.pool, pool)
        self._desk.edition += 1
        self._desk.legs.follow(self._requests, self.config.routing, len(pool), self._desk.legs.planner)
        self._decider.hold(ways)
        if self.intake is not None and self._desk.fleet is not None:
            hold(self.intake, self._decider, self._desk.fleet, self._desk.pool, self.edition)
        hear_engines(pool, self._decider, self.intake)
        self._sleeping.follow(ways.config, pool)
        self._repricing.follow()
        if self.feedback is not None:
            self.feedback.know([member.name for member in ways.models.pool])

    def reload(self, routing: Routing, objective: Objective | None = None) -> None:
        """From now on. Raises `ConfigError`, and changes nothing, when the checkpoint is refused or members change."""
        if self.changes is not None:
            self.changes.require_none()
        planner = planner_of(routing)
        self._decider.reload(routing)
        self._desk.legs.follow(self._requests, routing, len(self.pool), planner)
        if self.intake is not None:
            follow(self.intake, self._decider)
        objective = objective or self.config.objective
        self.config = msgspec.structs.replace(self.config, routing=routing, objective=objective)
        self._repricing.follow()

    @property
    def edition(self) -> int:
        """Of the pool: another number after each change of its members."""
        return self._desk.edition

    @property
    def estate(self) -> Estate:
        """What another process can take over."""
        sleeping = self._sleeping, self._put_to_sleep
        return Estate(self.pool, self._supervisor, self._folder, self.journal, self.feedback, *sleeping)

    def _put_to_sleep(self) -> None:
        """From now on, as engines of another process's that are ours."""
        self._sleeping.follow(self.config, self.pool, rehearsed=True)

    @property
    def logs(self) -> dict[str, str]:
        """The engines' log files, by member."""
        return {member.name: str(member.log_path) for member in self.pool if isinstance(member, EngineMember)}

    @property
    def placements(self) -> tuple[Placement, ...]:
        """How each engine's model is scored, and why so."""
        return configuration.by_engine(self.config.pool, self._decider.scoring.placements)

    # Service

    def submit(
        self, query: Query, body: bytes, sink: Sink, *, traceparent: str = "", permit: Permit | None = None
    ) -> Request:
        if permit is not None:
            return self._submit(query, body, sink, traceparent, permit)
        permit = self.gate.take(query.key_id, body, query.priority)
        try:
            return self._submit(query, body, sink, traceparent, permit)
        except BaseException:
            permit.settle()
            raise

    def _submit(self, query: Query, body: bytes, sink: Sink, traceparent: str, permit: Permit) -> Request:
        if not self.pool:
            raise NoEngine("this router only decides: it was made with start=False")
        if self._desk.closed:  # since the permit was taken, while its body was read
            raise NoEngine("the server is shutting down", retry_after_s=5.0)
        settings = self._desk.settings_of(query)
        if query.model not in self._decider.names.known and self._decider.adapters.at(query.model) is not None:
            query = msgspec.structs.replace(query, adapter=query.model)
        request = Request(self._requests, query, settings, body, sink, traceparent, permit)
        if permit.waiting:
            request.go("queued")
            self.gate.rank(permit, query.priority, query.deadline_s)
            permit.wait(lambda: self._desk.begin_late(request), request.refuse)
            request.keep_deadline()
        else:
            self._desk.begin(request)
        self._requests.add(request)
        return request

    def decide(
        self, what: str | Conversation | Query, *, model: str = "auto", max_tokens: int | None = None
    ) -> Decision:
        """The decision for a text, a conversation or a query; nothing is submitted. Raises `RouterError`."""
        if not self.pool:
            return self._decider.decide(what, model=model, max_tokens=max_tokens)
        query = what if isinstance(what, Query) else query_of(what, model=model, max_tokens=max_tokens)
        settings = self._desk.settings_of(query)
        return self._desk.decide(query, self._decider.score(query), settings)

    def engine_of(self, decision: Decision) -> PoolMember:
        """The engine that `decision`, for the pool as it is now, chose."""
        return self._desk.engine_of(decision)

    @property
    def rule_headers(self) -> frozenset[str]:
        return self._decider.rule_headers

    @property
    def scores_slowly(self) -> bool:
        """A decision takes milliseconds."""
        return self._decider.scoring.slow

    def models(self) -> tuple[ModelCard, ...]:
        strong = self._decider.names.settings(configuration.RESERVED_NAMES[0]).strong
        pool = configuration.models(self.config.pool)
        auto = self.config.server.list_auto == "always" or len(pool) > 1
        return cards_of(pool, self._desk.pool, self._decider.adapters, strong, self._created, auto=auto)

    def members(self) -> tuple[MemberStatus, ...]:
        return statuses_of(self.config.pool, self.pool)

    async def operate(self, name: str, call: EngineCall) -> bytes:
        assert self._adapters is not None
        return await operate(self.pool, self._adapters, name, call)

    def able(self) -> Mapping[str, frozenset[str]]:
        states = [member.state() for member in self._desk.pool]
        return abilities_of(self._decider.names, states, self._decider.adapters)

    def in_flight(self) -> int:
        return len(self._requests)

    @property
    def pending_bytes(self) -> int:
        """Of the bodies that are kept: a retry may need them, or their requests wait."""
        return self.gate.slots.pending_bytes

    @property
    def scoring_unfinished(self) -> int:
        """Scores that threads still make, after the end of their requests too."""
        return self._desk.threads.unfinished

    # Library

    def chat(
        self, messages: str | Conversation, *, model: str = "auto", deadline_s: float | None = None, **parameters: Any
    ) -> ChatStream:
        """The answer, chunk by chunk. `parameters` are those of OpenAI's chat API. Raises `RouterError` as it is read.

        Nothing happens before the first chunk is asked for; leaving the loop aborts the generation.
        """
        return ChatStream(self, ask(messages, model, parameters, stream=True, deadline_s=deadline_s))

    async def complete(
        self, messages: str | Conversation, *, model: str = "auto", deadline_s: float | None = None, **parameters: Any
    ) -> Completion:
        """The whole answer. Raises `RouterError`."""
        return await complete(self, ask(messages, model, parameters, stream=False, deadline_s=deadline_s))

    def _remove_folder(self, *, keep_logs: bool) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            self._forgotten.detach()
            folder.remove(keep_logs=keep_logs)
