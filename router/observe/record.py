"""The ledger's record: all that is known of one accepted request that has ended. One record a request, made at its end.

    Record
      ids, time, key, session, kind, model asked
      decision   the first one, with all numbers that it read and that followed (enough to decide again)
      legs       one attempt at one member each, in order; a later leg has the decision that chose it
      end        status, finish or error, usage, timings, engine seconds, dollars
      turns      the conversation, where the config keeps prompts

Seconds, tokens, USD. Fields are appended, never moved or given another meaning; `SCHEMA_VERSION` rises when one is
(`journal.migrate` reads the older ones). Defaults are left out of the JSON. Knows neither who writes nor who reads.
"""

from typing import Literal

import msgspec

from router.types import DecisionNumbers, Kind, Turn
from router.watched import Figures

SCHEMA_VERSION = 1

#: How a request, or one leg of it, ended: the answer was complete; an error; the client left or the caller cancelled.
End = Literal["finish", "error", "cancel"]

#: Why a leg follows another: the draft before it was not good enough; another model goes on with its text; the same
#: engine does, which the watch had stopped; another engine does, as the one before it was lost. Empty: the first leg,
#: or one that tries again what had not begun.
Why = Literal["", "cascade", "handoff", "go_on", "lost"]


class Decided(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A decision, with all numbers that led to it."""

    model: str  #: name of the member chosen
    member: int  #: its index in the pool
    reason: str  #: pinned, utility, threshold, only_candidate, canary, retry
    runner_up: str | None = None
    margin: float = 0.0
    score: float | None = None
    threshold: float | None = None
    #: Enough to decide again (`router.policy.decide_again`); its terms say what followed.
    numbers: DecisionNumbers | None = None


class Leg(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One attempt at one member."""

    model: str
    member: int  #: index in the pool
    end: End
    begun_s: float = 0.0  #: from the request's receipt to its hand-over to the member
    ended_s: float = 0.0  #: from the request's receipt to this leg's end
    error: str = ""  #: the error's type, of a leg that failed
    lost: bool = False  #: the engine was lost together with it
    retried: bool = False  #: it failed, and the next leg tries again
    #: What chose this leg, where it is not `Record.decision`: of every leg but the first.
    decision: Decided | None = None
    engine: str = ""  #: which of the model's engines, `small/1`; empty where it has one only
    # Of the legs of requests that have several, or could have had:
    why: Why = ""
    prompt_tokens: int = 0  #: as its own engine counts, as are the next two; 0 where it did not say
    completion_tokens: int = 0
    cached_tokens: int = 0
    engine_s: float | None = None  #: as of `Record`
    cost_usd: float | None = None
    figures: Figures | None = None  #: of an answer that was watched
    dropped: bool = False  #: its answer is not part of what the client was told


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, tag_field="type", tag="request"):
    """One accepted request that has ended."""

    version: int  #: `SCHEMA_VERSION`
    id: str  #: the decision's, as in `x-headgate-decision-id`; empty where none could be made
    request_id: str  #: as in `x-request-id`
    time_s: float  #: of receipt, seconds since the epoch
    kind: Kind
    asked: str  #: the `model` that was asked for
    key_id: str = ""  #: of the API key; never the key itself
    session_id: str = ""
    task: str = ""  #: a name for the traffic; the server gives `batch` to lines of batches, else none
    stream: bool = False
    decision: Decided | None = None  #: None: it ended before one was made
    legs: tuple[Leg, ...] = ()

    # Its end
    model: str = ""  #: that answered, or was answering
    end: End
    status: int  #: HTTP; of an error inside a stream that of the error; 499: cancelled
    error: str = ""  #: the error's type, as in `headgate_errors_total`
    finish_reason: str = ""  #: as the engine says it: stop, length, tool_calls, ...; empty where it did not
    streamed: bool = False  #: something of the answer had come from a member

    # Usage, as the engine counts; 0 where it did not say, as of what did not finish
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0  #: of `prompt_tokens`, found in the prefix cache

    # Timings
    queue_s: float = 0.0  #: waited for a slot, whether it got one or not
    overhead_s: float = 0.0  #: from receipt to hand-over to the first member
    #: From receipt to the first bytes of the answer; of a whole answer, by the engine's clock.
    ttft_s: float | None = None
    tpot_s: float | None = None  #: mean time per output token after the first, by the engine's clock
    total_s: float = 0.0  #: from receipt to end

    # Cost
    engine_s: float | None = None  #: engine seconds attributed to it; None where its tokens are not known
    cost_usd: float | None = None  #: of `engine_s`, at the price of the member's share; None where either is not known

    turns: tuple[Turn, ...] | None = None  #: the conversation, as `[role, text]`, where the config keeps prompts


def tpot_s(completion_tokens: int, first_token_s: float, total_s: float) -> float | None:
    """Mean time per output token, the first excluded. None where the engine's claims say nothing: of one token, or
    of a first token after the last one."""
    if completion_tokens < 2 or total_s <= 0 or total_s < first_token_s:
        return None
    return (total_s - first_token_s) / (completion_tokens - 1)
