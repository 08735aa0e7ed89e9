"""A request and its receiver: what either may do while the other is in the midst of something."""

from typing import Any

import pytest

from router.frontend.reply import Reply
from router.native.request import BaseRequest, Requests
from router.native.slots import Slots
from router.native.writer import Writer

EVENT = b'data: {"x":1}\n\n'


class Transport:
    """Takes what is written."""

    def __init__(self) -> None:
        self.sent = b""

    def write(self, data: bytes) -> None:
        self.sent += data


class SlowClient(Writer):
    """It does not read: what is streamed to it ends the request."""

    def __init__(self) -> None:
        self.request: BaseRequest | None = None
        self.stalled = True

    def stream_slowly(self, data: bytes) -> None:
        request, self.request = self.request, None
        assert request is not None
        request.end("cancelled")


class Streamed(Reply):
    """The answer; nobody but its request holds it. `begun_by`: what is done as its first chunk is due."""

    gone: list[str]
    begun_by: Any = None

    def start(self, decision: object) -> None:
        self.begin(b"head")
        if self.begun_by is not None:
            self.begun_by()

    def __del__(self) -> None:
        self.gone.append("gone")


class Bare(BaseRequest):
    """Without a pipeline."""

    decision = None

    def leave(self, cause: int) -> None: ...


def _requests() -> Requests:
    slots = Slots(10, 1000, lambda: None)
    slots.take(0)
    return Requests(slots, None, "r", "d")


@pytest.mark.parametrize("old_client", [False, True])
def test_a_stream_that_ends_its_request_in_the_midst_of_a_chunk_lives_until_the_chunk_is_passed_on(
    old_client: bool,
) -> None:
    requests, client, gone = _requests(), SlowClient(), list[str]()
    client.attach(Transport())
    receiver = Streamed(client, True, old_client, 1000)
    receiver.gone = gone
    request = Bare(requests, receiver, b"", True, 1.0)
    request.handed_over(0)
    requests.add(request)
    client.request = request
    del receiver
    request.chunk(EVENT)
    assert request.phase == "cancelled"
    assert gone == ["gone"]
    assert (len(requests), requests.slots.running) == (0, 0)
    assert requests.take_ended() == [request]


def test_a_stream_that_ends_its_request_as_its_first_chunk_is_due_gets_none() -> None:
    requests, client, gone = _requests(), SlowClient(), list[str]()
    transport = Transport()
    client.attach(transport)
    client.stalled = False
    receiver = Streamed(client, True, False, 1000)
    receiver.gone = gone
    request = Bare(requests, receiver, b"", True, 1.0)
    receiver.begun_by = lambda: request.end("cancelled")
    request.handed_over(0)
    del receiver
    request.chunk(EVENT)
    request.chunk(EVENT)
    assert request.phase == "cancelled"
    assert gone == ["gone"]
    assert transport.sent == b""
