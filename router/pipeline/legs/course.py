"""The way of one request that may have several legs: what is held back, told, dropped, gone on with, and by whom.

    held --done--> judged --enough--> told                               a cascade
                     |    --not yet--> held, or told as it comes, by the next model
    told as it comes --stopped by the watch--> gone on with, by the same engine or another model's     a hand-over
                     --its engine is lost--> gone on with, by another engine

Whatever fails, what a client can be given is given: a draft that is there, or the text so far from another engine. All
of it runs on the event loop's thread; nothing waits between two legs. Knows no scores and no HTTP.
"""

import asyncio
import logging

import msgspec

from router.errors import EngineFailed, RouterError
from router.ipc.messages import Done, Handoff
from router.native import steps
from router.observe.record import Why
from router.pipeline.leg import Leg
from router.pipeline.legs.base import Asked, Chooser, continues
from router.pipeline.legs.parts import Part, as_told, spent, told_part, with_dropped
from router.pipeline.legs.planner import Opening, Planner, Way, knots_left
from router.pipeline.legs.segment import Segment
from router.pipeline.legs.told import answer_text
from router.pipeline.legs.usage import with_tokens
from router.pool.base import Failure, PoolMember, Work
from router.types import Decision
from router.verify.evidence import Evidence
from router.watched import Continued, WatchSettings

log = logging.getLogger("headgate.pipeline")

#: An engine may go on so often with an answer that the watch stopped there.
MOST_GO_ONS = 2


class Draft(msgspec.Struct, frozen=True):
    """An answer that is complete, and was not told."""

    leg: Leg
    chunks: list[bytes]
    done: Done
    quality: float


class Course:
    """Of one `Request`, which it ends exactly once, through the request's own ends."""

    def __init__(self, request: Asked, chooser: Chooser, way: Way | None, prompt: str = "") -> None:
        """`way` None: an answer that is gone on with because its engine was lost. `prompt`: the user's last turn."""
        self._request = request
        self._chooser = chooser
        self.way = way
        self._prompt = prompt
        self.segment: Segment | None = None  #: under way
        self._drafts: list[Draft] = []
        self._part: Part | None = None  #: that the engine under way goes on with
        self._watch: WatchSettings | None = None  #: on the engine under way
        self._writer: Segment | None = None  #: of the text that was handed over
        self._handed = False
        self._go_ons = 0
        self._losses = 0
        self._streams = False  #: nothing is held back any more: it was for too long
        self._timer: asyncio.TimerHandle | None = None

    # For the request

    def submit(self, decision: Decision, holder: PoolMember, work: Work) -> None:
        """Begin the leg that was noted last, from the prompt on. Raises `RouterError`."""
        opening, self._part = self._opening(decision), None
        self._watch = opening.watch
        watch = b"" if opening.watch is None else msgspec.json.encode(opening.watch)
        hold = opening.hold and not (self._streams and self._request.stream)
        work = msgspec.structs.replace(work, watch=watch)
        if self._request.query.marked and self._request.stream and continues(holder):
            work = msgspec.structs.replace(work, continued=Continued(told=True))
        self._start(holder, work, hold=hold)
        if hold and self._request.stream and self._timer is None:
            assert self._chooser.planner is not None
            self._timer = asyncio.get_running_loop().call_later(self._chooser.planner.hold_s, self.release)

    def abort(self) -> None:
        """Nobody waits for what is under way."""
        segment, self.segment = self.segment, None
        if segment is not None:
            segment.holder.abort(segment)

    def close(self) -> None:
        """The request has ended."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._drafts.clear()

    @property
    def written(self) -> bool:
        """An engine goes on with a text that another one wrote."""
        return self._part is not None

    def late(self) -> bool:
        """Its deadline has come: whether a draft was told in time."""
        return self._tell_best()

    def release(self) -> None:
        """It was held back for too long: what there is of the answer under way is told, and all of it as it comes."""
        self._streams = True
        segment = self.segment
        if segment is None or segment.held is None or self._request.ended:
            return
        held, segment.held = segment.held, None
        if held:  # else a draft is still the answer if this one fails
            self._drop_drafts()
        try:
            self._tell(segment.leg, held)
        except Exception:  # as where a chunk comes
            log.exception("request %s: its receiver failed at what was held back", self._request.query.request_id)
            self.abort()
            self._request.fail(_broken())

    # Of the segment under way

    def chunk(self, segment: Segment, data: bytes) -> None:
        if segment.held is not None:
            if not segment.hold(data):
                self.release()
        elif segment is self.segment:
            if self._drafts:
                self._drop_drafts()
            self._request.chunk(self._with_tokens(segment.leg, data))

    def done(self, segment: Segment, done: Done) -> None:
        if segment is not self.segment:
            return
        self.segment = None
        segment.leg.finished(done.usage, done.figures)
        if segment.held is None:
            self._drop_drafts()
            self._request.done(as_told(done, self._part))
        else:
            self._judge(segment, segment.held, done)

    def handoff(self, segment: Segment, handoff: Handoff) -> None:
        if segment is not self.segment:
            return
        self.segment = None
        segment.leg.finished(handoff.usage, handoff.figures)
        if segment.held:  # a draft that a stream's client has not seen: it goes on as if it had been told nothing
            handoff = _untold(handoff)
        self._part = Part(handoff.text, with_dropped(handoff.continued, self._request.legs)) if handoff.text else None
        if not self._goes_on(segment, handoff):
            self._fail(segment, _broken(f"the answer was stopped ({handoff.why}), and nothing continues it"))

    def fail(self, segment: Segment, failure: Failure) -> None:
        if self._request.ended:
            return
        if segment is self.segment:
            self.segment = None
            self._fail(segment, failure)
        else:  # what came of its end has just raised
            self.abort()
            self._drafts.clear()
            self._request.fail(failure)

    def go_on_elsewhere(self, failure: Failure, lost: PoolMember | None) -> bool:
        """Whether another engine now makes the rest of what was told before `failure`."""
        request = self._request
        if self._losses or not failure.retryable:
            return False
        part = told_part(request, self._part)
        if part is None:
            return False
        self._losses += 1
        decision = self._chooser.elsewhere(request, lost)
        if decision is None:
            return False
        self._note(decision, "lost")
        if not self._run_on(decision, part, self._chooser.hand_over(decision)[0]):
            return False
        self._chooser.counted("lost", request.legs[0].decision.model, decision.model)
        return True

    # Within

    def _opening(self, decision: Decision) -> Opening:
        planner = self._chooser.planner
        if planner is None or self.way is None:
            return Opening()
        request = self._request
        return planner.opening(self.way, decision, request.settings.price, self._chooser.able(), stream=request.stream)

    def _start(self, holder: PoolMember, work: Work, *, hold: bool) -> None:
        """Raises `RouterError`."""
        segment = Segment(self, self._request.legs[-1], holder, hold=hold)
        segment.atypical = bool(work.continue_text)  # the rest of an answer says nothing of the length of whole ones
        holder.submit(work, segment)
        segment.go("waiting")
        self._request.holder, self.segment = holder, segment

    def _note(self, decision: Decision, why: Why) -> None:
        self._request.legs.append(Leg(decision, why))

    # A cascade

    def _judge(self, segment: Segment, held: list[bytes], done: Done) -> None:
        """A draft is complete: it is told, or the next model runs."""
        request, planner, leg = self._request, self._chooser.planner, segment.leg
        assert planner is not None
        done = as_told(done, self._part)
        text = answer_text(request.query.kind, request.stream, held)
        tokens = done.usage.completion_tokens
        self._drafts.append(Draft(leg, held, done, 1.0))
        try:
            evidence = Evidence.of(self._prompt, text, done.figures, done.finish_reason, output_tokens=tokens)
            self._drafts[-1] = Draft(leg, held, done, planner.judged(leg.decision, evidence))
            runs = self._run_next(planner)
        except Exception:  # of a judge, for example: the draft is there all the same
            log.exception("request %s: a draft could not be judged", request.query.request_id)
            runs = self.segment is not None
        if not runs:
            self._tell_best()

    def _run_next(self, planner: Planner) -> bool:
        request = self._request
        qualities = {draft.leg.decision.model: draft.quality for draft in self._drafts}
        rest = self._chooser.rest(request, frozenset(qualities))
        if rest is None:
            return False
        following = planner.after(rest, qualities, request.settings.price)
        if following < 0 or (decision := self._chooser.next(request, following, "cascade")) is None:
            return False
        drafted = self._drafts[-1].leg.decision.model
        self._note(decision, "cascade")
        try:
            holder, matched = self._chooser.hand_over(decision)
            self.submit(decision, holder, request.work(matched, decision.member))
        except RouterError as error:
            request.legs[-1].failed(error)
            return False
        request.known_decision = decision
        self._chooser.counted("cascade", drafted, decision.model)
        return True

    def _tell_best(self) -> bool:
        """The best of the drafts is the answer; False: there is none, or another one was begun to be told."""
        if not self._drafts or self._request.started:
            return False
        self.abort()
        best = max(self._drafts, key=lambda draft: draft.quality)
        self._drafts.remove(best)
        self._drop_drafts()
        best.leg.dropped = False
        self._request.known_decision = best.leg.decision
        self._tell(best.leg, best.chunks)
        self._request.done(best.done)
        return True

    def _drop_drafts(self) -> None:
        for draft in self._drafts:
            draft.leg.dropped = True
            self._chooser.counted("dropped", draft.leg.decision.model)
        self._drafts.clear()

    def _tell(self, leg: Leg, chunks: list[bytes]) -> None:
        for data in chunks:
            if self._request.ended:
                return
            self._request.chunk(self._with_tokens(leg, data))

    def _with_tokens(self, leg: Leg, data: bytes) -> bytes:
        """With what other models spent, in the usage: engines that go on with a text are told, and tell it."""
        if self._part is not None or len(self._request.legs) == 1:
            return data
        others = spent(self._request.legs, leg)
        return with_tokens(data, leg.decision.model, 0, others) if others else data

    # A hand-over

    def _goes_on(self, segment: Segment, handoff: Handoff) -> bool:
        """By the plan: the model that is worth more from here. Whoever cannot is replaced by the writer."""
        try:
            heir = self._heir(segment, handoff)
        except Exception:  # of a judge, for example: its writer goes on
            log.exception("request %s: who goes on could not be decided", self._request.query.request_id)
            heir = None
        self._writer = segment
        return (heir is not None and self._hand_to(heir, segment)) or self._go_on(segment, handoff.tokens)

    def _heir(self, segment: Segment, handoff: Handoff) -> int | None:
        """The index of the model that takes over; None: its writer goes on."""
        request, planner, way = self._request, self._chooser.planner, self.way
        if self._handed or planner is None or way is None:
            return None
        writer = segment.leg.decision
        rest = self._chooser.rest(request, frozenset({writer.model}))
        if rest is None:
            return None
        at = next((i for i, term in enumerate(rest.terms) if term.model == writer.model), None)
        if at is None:
            return None
        able = self._chooser.able() if self._part is not None else [True] * len(rest.terms)
        heir = planner.during(
            way,
            rest,
            at,
            handoff.figures,
            max(handoff.continued.completion_tokens, handoff.tokens),
            handoff.first_logits,
            request.settings.price,
            able,
            stream=request.stream,
        )
        return None if heir == at else heir

    def _hand_to(self, heir: int, segment: Segment) -> bool:
        decision = self._chooser.next(self._request, heir, "handoff")
        if decision is None:
            return False
        self._note(decision, "handoff")
        self._handed, self._watch = True, None
        if not self._run_on(decision, self._part, self._chooser.hand_over(decision)[0]):
            return False
        if self._part is None:
            self._request.known_decision = decision
        self._chooser.counted("handoff", segment.leg.decision.model, decision.model)
        return True

    def _go_on(self, segment: Segment, tokens: int) -> bool:
        """At the engine that wrote it, which has its prompt cached. `tokens`: that it was watched for."""
        self._go_ons += 1
        watch = self._watch
        if watch is not None:
            may_stop = self._go_ons < MOST_GO_ONS and not self._handed
            watch = knots_left(watch, tokens) if may_stop else WatchSettings()
            watch = msgspec.structs.replace(watch, first_bound=None, first_weights=())
        self._watch = watch
        self._note(segment.leg.decision, "go_on")
        self._chooser.counted("go_on", segment.leg.decision.model)
        return self._run_on(segment.leg.decision, self._part, segment.holder, hold=segment.held is not None)

    def _run_on(self, decision: Decision, part: Part | None, holder: PoolMember, *, hold: bool = False) -> bool:
        """Have `holder` make what follows `part`, or begin anew where there is none. Whether it has it now."""
        request = self._request
        self._part = part
        work = request.work(-1.0)
        if self._watch is not None:
            work = msgspec.structs.replace(work, watch=msgspec.json.encode(self._watch))
        if part is not None:
            work = msgspec.structs.replace(
                work,
                continue_text=part.text,
                continued=part.continued,
                prompt_tokens=work.prompt_tokens + part.continued.completion_tokens,
            )
        try:
            self._start(holder, work, hold=hold)
        except RouterError as error:
            request.legs[-1].failed(error)
            log.debug("request %s: %s cannot go on with it: %s", request.query.request_id, decision.model, error)
            return False
        return True

    # A failure

    def _fail(self, segment: Segment, failure: Failure) -> None:
        """Drafts first, then the text so far by another engine; else the request fails, or is tried elsewhere."""
        request = self._request
        segment.leg.failed(failure.error, lost=failure.lost)
        request.leave(steps.FAILED)
        written = self._writer if segment.leg.why == "handoff" and not segment.started else None
        if self._tell_best() or (written is not None and self._go_on(written, 0)):
            request.lost = request.lost or failure.lost
        else:
            request.fail(failure)


def _untold(handoff: Handoff) -> Handoff:
    """As for an engine whose client was told nothing of the text."""
    return msgspec.structs.replace(handoff, continued=msgspec.structs.replace(handoff.continued, sent=0, opened=False))


def _broken(why: str = "the answer could not be passed on") -> Failure:
    return Failure(EngineFailed(why))
