"""The pipe by which a host that starts says that its arguments are read, or why one of them is refused."""

import asyncio
import contextlib
import os

import msgspec

from router.ipc.spec import ArgumentRefusal

_MOST_BYTES = 64 * 1024


class Asking:
    """Ours is the reading end. `fd` is given to the host, and closed here by `handed_over`."""

    def __init__(self) -> None:
        self._read, self.fd = os.pipe()
        os.set_blocking(self._read, False)

    def handed_over(self) -> None:
        """The host has its end: ours of the same must not keep the pipe open."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    async def answer(self) -> ArgumentRefusal | None:
        """None: its arguments are fine, and it waits for its turn. Never returns where the host does not ask, as those
        of benches and tests. Raises `msgspec.DecodeError` on what is no answer."""
        loop = asyncio.get_running_loop()
        said = b""
        while not said.endswith(b"\n"):
            readable = loop.create_future()
            loop.add_reader(self._read, _settle, readable)
            try:
                await readable
            finally:
                if self._read >= 0:
                    loop.remove_reader(self._read)
            more = os.read(self._read, _MOST_BYTES - len(said))
            if not more:
                await loop.create_future()  # it ended, or closed its end: whoever watches the process sees to that
            said += more
        return msgspec.json.decode(said, type=ArgumentRefusal | None)

    def close(self) -> None:
        """Of the event loop too: the number of a descriptor that is closed may be another's at once."""
        self.handed_over()
        fd, self._read = self._read, -1
        if fd >= 0:
            with contextlib.suppress(RuntimeError):  # no event loop runs
                asyncio.get_running_loop().remove_reader(fd)
            os.close(fd)


def _settle(readable: "asyncio.Future[None]") -> None:
    if not readable.done():
        readable.set_result(None)
