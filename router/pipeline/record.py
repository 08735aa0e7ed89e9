"""What is known of a request at its end, as the ledger's record. The numbers of decisions are copied only where they
are wanted.
"""

import logging
import time
from collections.abc import Iterable, Sequence
from time import perf_counter
from typing import cast

from router.dialects.decode import decode
from router.errors import ClientGone, RouterError
from router.native.request import MOST_KEPT_BODY_BYTES, Requests
from router.observe.metrics import Metrics
from router.observe.record import SCHEMA_VERSION, Decided, End, Record, tpot_s
from router.observe.record import Leg as LegRecord
from router.observe.tick import Tick
from router.pipeline.ends import FinishedEnds
from router.pipeline.intake import Intake
from router.pipeline.leg import Leg
from router.pipeline.request import Request
from router.types import MEMBER_ROUTES, Kind, Turn, Usage

log = logging.getLogger("headgate.ledger")

_GONE = ClientGone("the client left")
_ENDS: dict[str, End] = {"finished": "finish", "failed": "error", "cancelled": "cancel"}


def record_of(request: Request, *, wanted: bool) -> Record:
    """`wanted`: with its decisions' numbers and its prompt."""
    query, legs, finished = request.query, request.legs, request.finished
    wanted = wanted or request.course is not None  # its legs are counted
    usage = Usage(*request.usage) if finished else Usage()
    first_token_s, total_s = request.timings if finished else (0.0, 0.0)
    error = None if finished else request.error or _GONE
    first_s, permit = request.first_s, request.permit
    queue_s = 0.0 if permit is None else permit.waited_s
    decided = [_decided(leg) for leg in legs] if wanted else []
    told = _legs(request, decided) if wanted else ()
    if request.course is not None:
        spent_s, spent_usd = _sum(leg.engine_s for leg in told), _sum(leg.cost_usd for leg in told)
    else:
        spent_s, spent_usd = _spent(query.kind, usage, decided[-1]) if decided and finished else (None, None)
    return Record(
        version=SCHEMA_VERSION,
        id=legs[0].decision.id if legs else "",
        request_id=query.request_id,
        time_s=time.time() - (perf_counter() - request.received_s),
        kind=query.kind,
        asked=query.model,
        key_id=query.key_id,
        session_id=query.session_id,
        task=query.task,
        stream=query.stream,
        decision=decided[0] if decided else None,
        legs=told,
        model=_answers(request) if first_s is not None and legs else "",
        end=_ENDS[request.phase],
        status=200 if error is None else error.status,
        error="" if error is None else error.type,
        finish_reason=request.finish_reason or "" if finished else "",
        streamed=first_s is not None,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        queue_s=queue_s,
        overhead_s=legs[0].begun_s - request.received_s - queue_s if legs else 0.0,
        ttft_s=first_s if query.stream else first_token_s or None,
        tpot_s=tpot_s(usage.completion_tokens, first_token_s, total_s),
        total_s=request.ended_s - request.received_s,
        engine_s=spent_s,
        cost_usd=spent_usd,
        turns=_turns(query.kind, request.body) if wanted and request.requests.keeps_bodies else None,
    )


class Ended:
    """The requests that ended since the ledger's last tick, as it asks for them (`observe.ledger.Source`)."""

    def __init__(self, requests: Requests, intake: Intake | None, metrics: Metrics) -> None:
        self._requests = requests
        self._intake = intake
        self._metrics = metrics

    def take(self, *, wanted: bool) -> Tick:
        ended = cast(list[Request], self._requests.take_ended())
        if self._intake is not None:
            self._intake.count(ended)
        made: list[Record] = []
        finished: list[Request] = []
        for request in ended:
            if request.native and request.finished:  # counted natively, by now
                finished.append(request)
            elif (record := _read(request, wanted=wanted)) is not None:
                made.append(record)
                self._metrics.ended(record)
        if not wanted:
            return Tick(made)
        if self._requests.keeps_bodies:
            return Tick(made + [record for request in finished if (record := _wanted(request)) is not None])
        return Tick(made, [FinishedEnds(finished, _wanted)])


def _read(request: Request, *, wanted: bool) -> Record | None:
    try:
        return record_of(request, wanted=wanted)
    except Exception:  # the others of this tick still have to be told of
        log.exception("the end of a request could not be read: it is in no record")
        return None


def _wanted(request: Request) -> Record | None:
    return _read(request, wanted=True)


def _answers(request: Request) -> str:
    """The model that the answer goes by; of several that wrote it the first."""
    decision = request.legs[-1].decision if request.course is None else request.decision
    return "" if decision is None else decision.model


def _sum(values: Iterable[float | None]) -> float | None:
    """Of those that are known."""
    known = [value for value in values if value is not None]
    return sum(known) if known else None


def _legs(request: Request, decided: Sequence[Decided]) -> tuple[LegRecord, ...]:
    return tuple([_leg(request, leg, decided[i], first=i == 0) for i, leg in enumerate(request.legs)])


def _leg(request: Request, leg: Leg, decided: Decided, *, first: bool) -> LegRecord:
    usage = leg.usage or Usage()
    spent_s, spent_usd = (None, None) if leg.usage is None else _spent(request.query.kind, usage, decided)
    unfinished = leg.error or (not request.finished and leg.usage is None)
    return LegRecord(
        model=leg.decision.model,
        member=leg.decision.member,
        end="error" if leg.error is not None else _ENDS[request.phase] if unfinished else "finish",
        begun_s=leg.begun_s - request.received_s,
        ended_s=(leg.ended_s or request.ended_s) - request.received_s,
        error=(leg.error or request.error or _GONE).type if unfinished else "",
        lost=leg.lost,
        retried=leg.retried,
        decision=None if first else decided,
        engine=leg.engine,
        why=leg.why,
        prompt_tokens=usage.prompt_tokens,
        completion_tokens=usage.completion_tokens,
        cached_tokens=usage.cached_tokens,
        engine_s=spent_s,
        cost_usd=spent_usd,
        figures=leg.figures,
        dropped=leg.dropped,
    )


def _decided(leg: Leg) -> Decided:
    decision = leg.decision
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


def _spent(kind: Kind, usage: Usage, decided: Decided) -> tuple[float | None, float | None]:
    """Engine seconds of the leg that finished, by the policy's sum with the answer's own tokens; and dollars, where the
    member has a price. None where its rates are not known yet: a pooling model never has one of output."""
    prefill, per_token_s = _number_of(decided, "prefill_tokens_per_s"), _number_of(decided, "time_per_output_token_s")
    without_output = kind in MEMBER_ROUTES and not usage.completion_tokens
    if not prefill or not (per_token_s or without_output):
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
    if not body or len(body) > MOST_KEPT_BODY_BYTES or kind == "stored":
        return None
    try:
        return tuple(decode(kind, body).turns) or None
    except RouterError:
        return None
