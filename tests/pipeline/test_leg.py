"""One attempt at one member: where its chunks go, and whom its failure rules out."""

from typing import Any, cast

from router.errors import ContextTooLong, EngineFailed
from router.ipc.frames import encode_frame
from router.ipc.messages import Chunks
from router.native.call import Call, Receiver, pass_on
from router.native.lane import Lane, Load
from router.pipeline.leg import not_again, stream_to
from router.pool.base import Failure
from router.types import MemberState


class Native(Receiver):
    """Takes chunks as a native receiver does, by its base's C method."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def chunk(self, data: bytes) -> None:
        self.got.append(data)


class Plain:
    """A receiver of another kind, as a library caller's."""

    def __init__(self) -> None:
        self.got: list[bytes] = []

    def chunk(self, data: bytes) -> None:
        self.got.append(data)


class Engine(Call):
    """A call of an engine."""

    __slots__ = ("chunk", "first")

    def __init__(self) -> None:
        super().__init__()
        self.first: list[bytes] = []
        self.chunk = self.first.append  # type: ignore[method-assign]

    def stream_to(self, chunk: Any) -> None:
        self.chunk = chunk


def told(call: Call, data: bytes) -> None:
    lane = Lane(Load(), 0.0)
    lane.calls[7] = call
    frame = bytes(encode_frame(Chunks([(7, data)])))

    def broke(call: Call) -> None:
        raise AssertionError(call)

    assert pass_on(lane, frame, broke) == len(frame)


def test_chunks_go_from_an_engine_to_a_native_receiver_natively() -> None:
    call, sink = Engine(), Native()
    told(call, b"first")
    stream_to(cast(Any, call), cast(Any, sink))
    assert call.straight is sink
    told(call, b"second")
    assert (call.first, sink.got) == ([b"first"], [b"second"])


def test_chunks_go_to_any_other_receiver_as_bytes() -> None:
    call, sink = Engine(), Plain()
    stream_to(cast(Any, call), cast(Any, sink))
    assert call.straight is None
    told(call, b"x")
    assert sink.got == [b"x"]


def test_a_prompt_too_long_for_one_rules_out_all_members_of_no_larger_context() -> None:
    members = [MemberState(name=str(size), context_tokens=size) for size in (100, 200, 50, 0, 100)]
    too_long = Failure(ContextTooLong("too long", param="messages"), retryable=True, context=True)
    assert not_again(0, too_long, members) == {0, 2, 4}
    assert not_again(0, Failure(EngineFailed("lost"), retryable=True), members) == {0}
