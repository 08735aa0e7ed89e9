"""The pipeline: admit -> decide -> submit -> continue. The only place that knows scoring, policy and pool together.

Knows no HTTP; `frontend` and the library submit to it. All calls come from one event loop's thread.
"""

import asyncio
import logging
import time
import weakref
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import msgspec

from router import config as configuration
from router.config import Config, Member, Routing
from router.errors import ArgumentsRefused, ConfigError, EngineFailed, EngineStartError, NoEngine, RouterError
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
from router.pipeline.conversation import Conversation, query_of
from router.pipeline.decider import Decider, decider_of
from router.pipeline.estate import Estate, Heritage, journal_lock, runtime_folder, settle
from router.pipeline.holders import Holders
from router.pipeline.ids import process_id
from router.pipeline.judge import score as score_by_judge
from router.pipeline.leg import Leg, not_again
from router.pipeline.library import ChatStream, Completion, ask, complete
from router.pipeline.native_intake import follow, hear_engines, intake_of
from router.pipeline.operate import operate
from router.pipeline.record import Ended
from router.pipeline.request import Request
from router.pipeline.scoring import Scoring
from router.pipeline.service import MemberStatus, ModelCard
from router.pipeline.sink import Sink
from router.pipeline.threads import LARGE_BODY_BYTES, Threads
from router.pipeline.whole import WHOLE, abilities_of, settled
from router.policy import Settings
from router.pool import PoolMember, build
from router.pool.base import Failure
from router.pool.engine import EngineMember
from router.pool.environment import Machine, placed, this_machine
from router.pool.folder import RuntimeFolder
from router.pool.supervisor import StartEvent, Supervisor
from router.types import MEMBER_ROUTES, Decision, Query, Scores, Snapshot

log = logging.getLogger("headgate.pipeline")


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
        if pool is None and start:
            environment = configuration.inherited_environment(config)
            self.machine = this_machine(environment) if machine is None else machine
            config = placed(config, self.machine, configuration.hub_folder(environment))
        self.config = config
        self.metrics = Metrics(process=False) if metrics is None else metrics
        starts = start or pool is not None
        self._adapters = (
            PoolAdapters(lambda: self.pool, lambda: configuration.taken_names(self.config.pool)) if starts else None
        )
        self._decider = Decider(config, scoring, self._adapters)
        self._holders = Holders(lambda: self.pool)
        self.gate = Gate(config.server.limits, self.metrics)
        self.journal: Journal | None = None
        self.feedback: Feedback | None = None
        self.batches: Batches | None = None
        self._start, self._heritage = start, heritage
        self._on_event = on_event
        self._created = int(time.time())
        self._requests = Requests(self.gate.slots, self, process_id, self._decider.id_prefix)
        self._closed = False
        self._threads = Threads()
        self._folder: RuntimeFolder | None = None
        if pool is None and start:
            self._folder = runtime_folder(config.supervision.runtime_dir, heritage)
            self._forgotten = weakref.finalize(self, self._folder.remove)  # made, and never started
            pool = build(config, self._folder.path, environment, self.machine, host_command=host_command)
            settle(pool, heritage)
        self.pool: tuple[PoolMember, ...] = tuple(pool or ())
        if config.server.engine_metrics:
            self.metrics.watch_engines(EngineMetrics(self._engines_metrics))
        self.ledger = Ledger()
        self.intake = intake_of(self._requests, self._decider, self.pool, config.server)
        self._requests.wake = self.ledger.wake
        self.ledger.gather(Ended(self._requests, self.intake, self.metrics))
        self._supervisor = Supervisor(self.pool, config.supervision)
        hear_engines(self.pool, self._decider, self.intake)

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
        except BaseException as error:
            await self._close_journal()
            self._remove_folder(keep_logs=isinstance(error, EngineStartError))
            if isinstance(error, ArgumentsRefused):
                raise self._refusal(error) from error
            raise

    def _refusal(self, refused: ArgumentsRefused) -> ConfigError:
        names = [member.name for member in self.config.pool]
        at = f"$.pool[{names.index(refused.member)}].engine_args"
        return ConfigError(f"{refused.said} - at `{at}{refused.key and '.'}{refused.key}`")

    async def stop(self) -> None:
        """End every request with an error and every engine. Idempotent."""
        self._closed = True
        if self.batches is not None:
            self.batches.withdraw()
        self.gate.close()
        if self.intake is not None:
            self.intake.close()
        for request in self._requests:
            try:
                cast(Request, request).refuse(EngineFailed("the server is shutting down"))
            except Exception:  # the others, and the engines, must still be ended
                log.exception("a request could not be told that the server is shutting down")
        self._threads.stop()
        self.ledger.tell()
        await self._close_journal()
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
            names = [member.name for member in self.config.pool]
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

    def reload(self, routing: Routing) -> None:
        """Decide by `routing` from now on. Raises `ConfigError` and changes nothing when its checkpoint is refused."""
        self._decider.reload(routing)
        if self.intake is not None:
            follow(self.intake, self._decider)
        self.config = msgspec.structs.replace(self.config, routing=routing)

    @property
    def estate(self) -> Estate:
        """What another process can take over."""
        return Estate(self.pool, self._supervisor, self._folder, self.journal)

    @property
    def logs(self) -> dict[str, str]:
        """The engines' log files, by member."""
        return {member.name: str(member.log_path) for member in self.pool if isinstance(member, EngineMember)}

    def _engines_metrics(self) -> dict[str, Coroutine[None, None, str]]:
        engines = [member for member in self.pool if isinstance(member, EngineMember) and member.tells_metrics]
        return {engine.name: engine.metrics() for engine in engines}

    @property
    def placements(self) -> tuple[Placement, ...]:
        """How each member is scored, and why so."""
        return self._decider.scoring.placements

    # Service

    def submit(
        self, query: Query, body: bytes, sink: Sink, *, traceparent: str = "", permit: Permit | None = None
    ) -> Request:
        if permit is not None:
            return self._submit(query, body, sink, traceparent, permit)
        permit = self.gate.take(query.key_id, body)
        try:
            return self._submit(query, body, sink, traceparent, permit)
        except BaseException:
            permit.settle()
            raise

    def _submit(self, query: Query, body: bytes, sink: Sink, traceparent: str, permit: Permit) -> Request:
        if not self.pool:
            raise NoEngine("this router only decides: it was made with start=False")
        if self._closed:  # since the permit was taken, while its body was read
            raise NoEngine("the server is shutting down", retry_after_s=5.0)
        settings = self.settings_of(query)
        if query.model not in self._decider.names.known and self._decider.adapters.at(query.model) is not None:
            query = msgspec.structs.replace(query, adapter=query.model)
        request = Request(self._requests, query, settings, body, sink, traceparent, permit)
        if permit.waiting:
            request.go("queued")
            permit.wait(lambda: self._begin_late(request), request.refuse)
            request.keep_deadline()
        else:
            self._begin(request)
        self._requests.add(request)
        return request

    def _begin(self, request: Request) -> None:
        """Score, decide, hand over. Raises `RouterError`."""
        if request.query.kind in WHOLE:
            request.atypical = True  # it has no answer whose length could be learnt
            request.begin(self._decider.unscored(len(request.body)))
            return
        if len(request.body) > LARGE_BODY_BYTES or self._decider.scoring.slow:
            self._score_elsewhere(request)
            request.keep_deadline()
            return
        begun = time.perf_counter()
        request.begin(self._decider.scoring.score(request.query))
        assert request.decision is not None
        self._count(request.decision, begun)

    def _begin_late(self, request: Request) -> None:
        """A request that had to wait: it is accepted, its errors go to the sink."""
        try:
            self._begin(request)
        except RouterError as error:
            request.refuse(error)

    def decide(
        self, what: str | Conversation | Query, *, model: str = "auto", max_tokens: int | None = None
    ) -> Decision:
        """The decision for a text, a conversation or a query; nothing is submitted. Raises `RouterError`."""
        if not self.pool:
            return self._decider.decide(what, model=model, max_tokens=max_tokens)
        query = what if isinstance(what, Query) else query_of(what, model=model, max_tokens=max_tokens)
        settings = self.settings_of(query)
        whole = query.kind in WHOLE
        scores = self._decider.unscored(0) if whole else self._decider.scoring.score(query)
        return self._decider.choose(query, scores, self._snapshot(), settings)

    @property
    def scores_slowly(self) -> bool:
        """A decision takes milliseconds."""
        return self._decider.scoring.slow

    def models(self) -> tuple[ModelCard, ...]:
        states = [member.state() for member in self.pool]
        known = {state.name: state.context_tokens for state in states}
        cards: list[ModelCard] = []
        for i, member in enumerate(self.config.pool):
            about = ModelCard(
                id=member.name,
                root=member.model or member.name,
                created=self._created,
                context_tokens=known.get(member.name, member.context_tokens),
            )
            cards += [msgspec.structs.replace(about, id=name) for name in (member.name, *member.also)]
            cards += [
                ModelCard(id=adapter.name, root=adapter.path, parent=member.name, created=self._created)
                for adapter in self._decider.adapters.of(i)
            ]
        auto = configuration.RESERVED_NAMES[0]
        strongest = self.config.pool[self._decider.names.settings(auto).strong]
        root = strongest.model or strongest.name
        return (ModelCard(id=auto, root=root, created=self._created), *cards)

    def members(self) -> tuple[MemberStatus, ...]:
        return tuple(member.status() for member in self.pool)

    async def operate(self, name: str, call: EngineCall) -> bytes:
        assert self._adapters is not None
        return await operate(self.pool, self._adapters, name, call)

    def able(self) -> Mapping[str, frozenset[str]]:
        return abilities_of(self._decider.names, [member.state() for member in self.pool])

    def in_flight(self) -> int:
        return len(self._requests)

    @property
    def pending_bytes(self) -> int:
        """Of the bodies that are kept: a retry may need them, or their requests wait."""
        return self.gate.slots.pending_bytes

    @property
    def scoring_unfinished(self) -> int:
        """Scores that threads still make, after the end of their requests too."""
        return self._threads.unfinished

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

    # Desk of the requests

    def settings_of(self, query: Query) -> Settings:
        settings, pooling = self._decider.names.settings_of(query), self._decider.pooling
        if pooling or query.kind in MEMBER_ROUTES:
            settings = settled(query, settings, [member.state() for member in self.pool], pooling)
        return self._holders.rule(query, settings) if query.response_id else settings

    def choose(self, request: Request) -> Decision:
        assert request.known_scores is not None
        return self._choose(request, request.known_scores, self._snapshot(), request.settings)

    def _choose(self, request: Request, scores: Scores, snapshot: Snapshot, settings: Settings) -> Decision:
        """Decide, and note the leg. Raises `RouterError`."""
        legs = request.legs
        first = legs[0].decision.id if legs else ""
        decision = self._decider.choose(request.query, scores, snapshot, settings, again=first)
        legs.append(Leg(decision))
        if request.query.own_id:
            self._holders.note(request.query.own_id, decision.model)
        return decision

    def choose_again(self, request: Request, failure: Failure) -> Decision | None:
        if self._closed or not failure.retryable or not self._decider.routing.retry:
            return None
        if request.settings.rule == "pinned" or request.decision is None:
            return None
        scoring = self._decider.scoring
        if request.known_scores is None:  # native code keeps none
            if scoring.slow:
                return None
            request.known_scores = scoring.score(request.query)
        snapshot = self._snapshot()
        excluded = not_again(request.decision.member, failure, snapshot.members)
        settings = msgspec.structs.replace(request.settings, excluded=excluded)
        try:
            decision = self._choose(request, request.known_scores, snapshot, settings)
        except RouterError:
            return None
        self.metrics.decided(decision.model, "retry", 0.0)
        return decision

    def acknowledge(self, act: Callable[[], None]) -> None:
        if self.ledger.holds:
            self.ledger.hold(act)
        else:
            act()

    def _snapshot(self) -> Snapshot:
        return Snapshot(tuple([member.state() for member in self.pool]))

    def _score_elsewhere(self, request: Request) -> None:
        """Score without holding up the event loop; the request is accepted, its errors go to the sink."""
        scoring, judge = self._decider.scoring, self._decider.judge
        request.go("scoring")
        begun = time.perf_counter()

        def scored(future: "asyncio.Future[Scores]") -> None:
            request.scored(future)
            if request.decision is not None:
                self._count(request.decision, begun)

        if judge is None or request.settings.rule == "pinned":
            future = self._threads.run(scoring.score, request.query)
        else:
            limit_s = self._decider.routing.judge_timeout_s
            asked = score_by_judge(scoring.head, self.pool[judge], request.query, limit_s, self.metrics)
            future = asyncio.ensure_future(asked)
        future.add_done_callback(scored)

    def _count(self, decision: Decision, begun: float) -> None:
        self.metrics.decided(decision.model, decision.reason, time.perf_counter() - begun)

    def _remove_folder(self, *, keep_logs: bool) -> None:
        folder, self._folder = self._folder, None
        if folder is not None:
            self._forgotten.detach()
            folder.remove(keep_logs=keep_logs)
