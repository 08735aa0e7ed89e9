"""Engine members without an engine: a connection to a host that is not there, over a transport that keeps nothing."""

import asyncio
from typing import Any

from router.ipc.channel import Channel
from router.ipc.messages import Message
from router.pool.engine import EngineMember


class Deaf:
    """A transport that takes everything and keeps nothing."""

    def get_extra_info(self, name: str) -> Any:
        return None

    def write(self, data: Any) -> None: ...

    def is_closing(self) -> bool:
        return False

    def get_write_buffer_size(self) -> int:
        return 0

    def set_write_buffer_limits(self, high: int) -> None: ...

    def abort(self) -> None: ...


class Link:
    """In the place of a `HostLink`. What `channel` is given goes to the member as if a host had sent it."""

    process = None

    def __init__(self, member: EngineMember, loop: asyncio.AbstractEventLoop, *, natively: bool) -> None:
        """`natively`: frames of running answers are read natively, as they are in a server."""
        self.received = member.received
        self.channel = Channel(self, loop)
        if natively:
            self.channel.shortcut = member._frames
        self.channel.connection_made(Deaf())  # type: ignore[arg-type]

    def send(self, message: Message) -> None:
        self.channel.send(message)

    def unsent_bytes(self) -> int:
        return self.channel.buffered_bytes()

    def connected(self, channel: Channel) -> None: ...

    def lost(self, error: Exception | None) -> None: ...

    def writable(self, writable: bool) -> None: ...
