"""One attempt of a request at one member: how its answer reaches the receiver, and what its failure rules out.

Knows members and receivers; nothing of HTTP, scores or policy.
"""

from collections.abc import Sequence

from router.native import call as native
from router.pipeline.sink import Sink
from router.pool.base import Call, Failure
from router.types import MemberState


def stream_to(call: Call, sink: Sink) -> None:
    """Chunks of `call` go to `sink` from now on, without us: natively where both are native, so that a token is never a
    Python object."""
    call.stream_to(sink.chunk)
    if isinstance(call, native.Call) and isinstance(sink, native.Receiver):
        call.straight = sink


def not_again(tried: int, failure: Failure, members: Sequence[MemberState]) -> frozenset[int]:
    """Members that need not be tried: the one that failed and, for a prompt too long, all of no larger context."""
    excluded = {tried}
    if failure.context and members[tried].context_tokens:
        known = members[tried].context_tokens
        excluded |= {i for i, member in enumerate(members) if 0 < member.context_tokens <= known}
    return frozenset(excluded)
