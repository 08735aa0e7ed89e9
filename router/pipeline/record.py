"""What is known of a request at its end, as the ledger's record: of an ordinary request, and of one that native code
has seen to its end. The numbers of decisions are copied only where they are wanted.
"""

import time
from collections.abc import Sequence
from time import perf_counter

import msgspec

from router.dialects.decode import AUTO, decode
from router.errors import ClientGone, RouterError
from router.ipc.messages import Done
from router.native.express import Express, Passage
from router.observe.metrics import Metrics
from router.observe.record import SCHEMA_VERSION, Decided, End, Leg, Record, tpot_s
from router.pipeline.attempt import Attempt
from router.types import Kind, Query, Timings, Turn, Usage

#: Longer bodies are kept by no journal: its lines are held in memory until they are written.
MOST_KEPT_BODY_BYTES = 256 * 1024
_GONE = ClientGone("the client left")
_BROKE = RouterError("internal error")


class Life(msgspec.Struct, frozen=True, kw_only=True):
    """A request that has ended, as its record is made of. `done` for an answer, else `error`; neither: cancelled."""

    query: Query
    attempts: Sequence[Attempt]
    received_s: float  #: of `time.perf_counter`
    ended_s: float  #: likewise
    queue_s: float = 0.0  #: for which it waited for a slot
    first_s: float | None = None  #: from receipt to the first bytes of the answer
    done: Done | None = None
    error: RouterError | None = None
    body: bytes = b""  #: empty where no prompt is kept

    @property
    def end(self) -> End:
        return "finish" if self.done is not None else "cancel" if self.error is None else "error"


def record_of(life: Life, *, wanted: bool) -> Record:
    """`wanted`: with its decisions' numbers and its prompt."""
    query, attempts, done = life.query, life.attempts, life.done
    usage, timings = (Usage(), Timings()) if done is None else (done.usage, done.timings)
    error = None if done is not None else life.error or _GONE
    started = life.first_s is not None
    decided = [_decided(attempt) for attempt in attempts] if wanted else []
    spent_s, spent_usd = _spent(usage, decided[-1]) if decided and done is not None else (None, None)
    first_s = life.first_s if query.stream else timings.first_token_s or None
    return Record(
        version=SCHEMA_VERSION,
        id=attempts[0].decision.id if attempts else "",
        request_id=query.request_id,
        time_s=time.time() - (perf_counter() - life.received_s),
        kind=query.kind,
        asked=query.model,
        key_id=query.key_id,
        session_id=query.session_id,
        stream=query.stream,
        decision=decided[0] if decided else None,
        legs=_legs(life, decided) if wanted else (),
        model=attempts[-1].decision.model if started and attempts else "",
        end=life.end,
        status=200 if error is None else error.status,
        error="" if error is None else error.type,
        finish_reason="" if done is None else done.finish_reason,
        streamed=started,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        queue_s=life.queue_s,
        overhead_s=attempts[0].begun_s - life.received_s - life.queue_s if attempts else 0.0,
        ttft_s=first_s,
        tpot_s=tpot_s(usage.completion_tokens, timings.first_token_s, timings.total_s),
        total_s=life.ended_s - life.received_s,
        engine_s=spent_s,
        cost_usd=spent_usd,
        turns=_turns(query.kind, life.body) if wanted else None,
    )


class Gathered:
    """The ends that native code gathers, as the ledger asks for them (`observe.ledger.Source`)."""

    def __init__(self, express: Express, metrics: Metrics) -> None:
        self._express = express
        self._metrics = metrics

    def take(self, *, wanted: bool) -> list[Record]:
        records = []
        for passage in self._express.take_ended():
            if wanted or not passage.finished:
                life = _life_of(passage, keeps=self._express.keeps_bodies)
                record = record_of(life, wanted=True)
                records.append(record)
                if not passage.finished:  # those that finished are counted by now
                    self._metrics.ended(record)
        return records


def query_of(passage: Passage) -> Query:
    """What is known of a request that native code began once its body is gone: all but its turns."""
    return Query(
        kind="chat",
        model=passage.asked.decode() or AUTO,
        turns=(),
        stream=passage.stream,
        request_id=passage.request_id,
        key_id=passage.key_id,
        session_id=passage.session_id,
    )


def attempt_of(passage: Passage) -> Attempt:
    """The one leg of a request that native code began."""
    attempt = Attempt(passage.decision)
    attempt.begun_s = passage.received_s + passage.overhead_s
    return attempt


def _life_of(passage: Passage, *, keeps: bool) -> Life:
    done = None
    if passage.finished:
        usage, timings = Usage(*passage.usage), Timings(*passage.timings)
        done = Done(id=passage.id, usage=usage, finish_reason=passage.finish_reason or "", timings=timings)
    return Life(
        query=query_of(passage),
        attempts=(attempt_of(passage),),
        received_s=passage.received_s,
        ended_s=passage.ended_s,
        first_s=passage.first_s if passage.started else None,
        done=done,
        error=None if passage.finished else passage.error or _BROKE,
        body=passage.body if keeps else b"",
    )


def _legs(life: Life, decided: Sequence[Decided]) -> tuple[Leg, ...]:
    return tuple(
        Leg(
            model=attempt.decision.model,
            member=attempt.decision.member,
            end=life.end if attempt.error is None else "error",
            begun_s=attempt.begun_s - life.received_s,
            ended_s=(attempt.ended_s or life.ended_s) - life.received_s,
            error=(attempt.error or life.error or _GONE).type if attempt.error or life.done is None else "",
            lost=attempt.lost,
            retried=attempt.retried,
            decision=decided[i] if i else None,
        )
        for i, attempt in enumerate(life.attempts)
    )


def _decided(attempt: Attempt) -> Decided:
    decision = attempt.decision
    return Decided(
        model=decision.model,
        member=decision.member,
        reason=decision.reason,
        runner_up=decision.runner_up,
        margin=decision.margin,
        score=decision.score,
        threshold=decision.threshold,
        numbers=None if decision.numbers is None else decision.numbers.record(),
    )


def _spent(usage: Usage, decided: Decided) -> tuple[float | None, float | None]:
    """Engine seconds of the leg that finished, by the policy's sum with the answer's own tokens; and dollars, where the
    member has a price. None where its rates are not known yet."""
    prefill, per_token_s = _number_of(decided, "prefill_tokens_per_s"), _number_of(decided, "time_per_output_token_s")
    if not prefill or not per_token_s:
        return None, None
    uncached = max(usage.prompt_tokens - usage.cached_tokens, 0)
    spent_s = uncached / prefill + usage.completion_tokens * per_token_s
    usd_per_s = _number_of(decided, "usd_per_s")
    return spent_s, spent_s * usd_per_s if usd_per_s else None


def _number_of(decided: Decided, name: str) -> float:
    """Of the chosen member; 0 where it is not known."""
    column = None if decided.numbers is None else decided.numbers.members.get(name)
    value = None if column is None else column[decided.member]
    return float(value) if isinstance(value, int | float) else 0.0


def _turns(kind: Kind, body: bytes) -> tuple[Turn, ...] | None:
    """The conversation; None where it is not kept, or the body is one that has none."""
    if not body or len(body) > MOST_KEPT_BODY_BYTES:
        return None
    try:
        return tuple(decode(kind, body).turns)
    except RouterError:
        return None
