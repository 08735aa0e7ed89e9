"""What the frontend and the library see of the pipeline: a place to submit queries, and facts about the pool.

`frontend` and the library are written against this; tests drive the frontend with a scripted one.
"""

from collections.abc import Mapping
from typing import Protocol

import msgspec

from router.errors import RouterError
from router.gate.gate import Gate
from router.gate.permit import Permit
from router.ipc.spec import EngineCall
from router.observe.feedback import Feedback
from router.pipeline.batch.batches import Batches
from router.pipeline.changes import Changes
from router.pipeline.intake import Intake
from router.pipeline.sink import Sink
from router.policy.prices import PricesTold
from router.pool.base import MemberPhase, MemberStatus
from router.types import Decision, Query

__all__ = ["MemberPhase", "MemberStatus", "ModelCard", "Service", "Ticket"]


class ModelCard(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of `/v1/models`."""

    id: str
    root: str = ""  #: path or hub id of the weights, or of the adapter; of `auto`, those of the strongest member
    parent: str = ""  #: of a LoRA adapter: the name of its member
    created: int  #: Unix seconds
    context_tokens: int = 0  #: 0 when unknown


class Ticket(Protocol):
    """An accepted request. It ends exactly once: `sink.done`, `sink.fail`, or `cancel`."""

    def cancel(self, why: RouterError | None = None) -> None:
        """Abort in the engine, call the sink no more: the client is gone or, with `why`, the receiver itself ends the
        answer in that error. Harmless after the end."""
        ...


class Service(Protocol):
    """The pipeline."""

    @property
    def gate(self) -> Gate | None:
        """What lets requests start; None: each listening port has its own."""
        ...

    def submit(
        self, query: Query, body: bytes, sink: Sink, *, traceparent: str = "", permit: Permit | None = None
    ) -> Ticket:
        """Decide and hand to a member, once the request's turn has come; `permit`: the gate's, which is asked here
        where there is none. Raises `RouterError` on refusal; afterwards errors go to the sink.

        The sink is never called before this returns. Where it raises, a given `permit` is the caller's to settle.
        """
        ...

    @property
    def rule_headers(self) -> frozenset[str]:
        """Names of the request headers that rules of the config read, in lower case."""
        ...

    @property
    def intake(self) -> Intake | None:
        """Takes plain chats natively, where the pool allows it."""
        ...

    @property
    def changes(self) -> Changes | None:
        """How members come and go; None where they are as they are."""
        ...

    @property
    def feedback(self) -> Feedback | None:
        """What clients say of answers; None where it is written nowhere."""
        ...

    @property
    def batches(self) -> Batches | None:
        """Files and batches; None where the config names no folder for them."""
        ...

    def decide(self, query: Query) -> Decision:
        """The decision alone; nothing is submitted."""
        ...

    def models(self) -> tuple[ModelCard, ...]:
        """`auto` first, then the members, each before its LoRA adapters."""
        ...

    def members(self) -> tuple[MemberStatus, ...]: ...

    def prices(self) -> PricesTold:
        """Lambda, what devices' time costs, and what the objective reaches."""
        ...

    async def operate(self, name: str, call: EngineCall) -> bytes:
        """vLLM's answer to an operator's `call` by the member called `name`. Raises `RouterError`."""
        ...

    def able(self) -> Mapping[str, frozenset[str]]:
        """By name of a model, `auto` among them: the capabilities of the members that it may mean."""
        ...

    def in_flight(self) -> int:
        """Accepted and unfinished requests."""
        ...
