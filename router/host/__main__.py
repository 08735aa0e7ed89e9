"""`python -m router.host`: one engine host. Reads its `HostSpec` from standard input and serves until that ends.

Order matters: the guard is forked while the process is small and single-threaded, the socket exists before vLLM is
imported, and nothing prints past the copied standard error.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine

import msgspec
import uvloop

from router.host.base import DIED, engine_failed
from router.host.last_error import LastWords, last_error, root_cause
from router.host.orphan_guard import stand_guard
from router.host.server import Server, remove_socket
from router.host.turn import look_at_names
from router.ipc.spec import HostSpec

logger = logging.getLogger("headgate.host")


def main() -> int:
    """The process's exit status: 0 after an orderly end, 1 when the engine did not start or died."""
    try:
        spec = msgspec.json.decode(sys.stdin.buffer.readline(), type=HostSpec)
    except msgspec.DecodeError as error:
        print(
            f"headgate-host: error: expected a host spec as one JSON line on standard input: {error}", file=sys.stderr
        )
        return 2
    stand_guard()
    words = LastWords()
    _log_to_stderr()
    inode = -1
    try:
        listener = _listen(spec.socket)
        inode = os.lstat(spec.socket).st_ino
        why = uvloop.run(_serve(spec, listener))
    except KeyboardInterrupt:
        why = ""
    except BaseException as error:  # whatever it was, the supervisor shows our last line
        logger.exception("the engine host failed")
        why = root_cause(error, words.settled())
    finally:
        remove_socket(spec.socket, inode)
    if why == DIED:
        cause = last_error(words.settled()[-100:])
        why = f"{DIED}: {cause}" if cause else DIED
    if why:
        words.say(f"headgate-host: error: {why}")
        return 1
    return 0


def _log_to_stderr() -> None:
    """A handler of our own: what vLLM and its libraries do to the root logger is their affair."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("headgate-host: %(levelname)s %(message)s"))
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False


def _listen(path: str) -> socket.socket:
    remove_socket(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    mask = os.umask(0o177)
    try:
        listener.bind(path)
    finally:
        os.umask(mask)
    # Frontends may connect from now on; they hear `Hello` when the engine is ready.
    listener.listen(128)
    return listener


async def _serve(spec: HostSpec, listener: socket.socket) -> str:
    """Serve until told to stop (empty) or until the engine is dead (why)."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    _stop_at_end_of_input(loop, stop)
    _keep_sockets_private(spec.socket)
    look_at_names(spec)
    from router.host.adapter.engine import VllmEngine

    engine = await VllmEngine.open(spec)
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stop.set)
    try:
        server = Server(
            spec.name,
            engine,
            load_interval_s=spec.load_interval_s,
            stream_buffer_bytes=spec.stream_buffer_bytes,
            secret=spec.secret.encode(),
            stop=stop.set,
        )
        # What start-up left is permanent: keep the collector from walking it again and again.
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
        logger.info("ready; the fast way takes %s", engine.ways)
        unix_server = await loop.create_unix_server(server.accept, sock=listener)
        why = await _first(engine.watch(server.load_changed), stop)
        if why:
            server.fail_all(engine_failed(why))
        unix_server.close()
        server.close()
        await asyncio.sleep(0.05)  # let the last frames leave
        return why
    finally:
        engine.close()


def _keep_sockets_private(socket_path: str) -> None:
    """vLLM puts the sockets to its engine core into the system's temporary folder, for all to see and for ever when it
    is killed. Ours is private and goes with the pool. A Unix socket's path holds 107 bytes, the names take 37.
    """
    folder = os.path.dirname(os.path.abspath(socket_path))
    if len(os.fsencode(folder)) <= 68:
        os.environ.setdefault("VLLM_RPC_BASE_PATH", folder)


async def _first(watch: Coroutine[None, None, str], stop: asyncio.Event) -> str:
    """Why the engine died, or empty once `stop` is set."""
    watching = asyncio.ensure_future(watch)
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait([watching, stopping], return_when=asyncio.FIRST_COMPLETED)
    for task in (watching, stopping):
        task.cancel()
    return watching.result() if watching.done() and not watching.cancelled() else ""


def _stop_at_end_of_input(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """The supervisor holds the other end of standard input: its end is ours."""

    def readable() -> None:
        if not os.read(0, 4096):
            loop.remove_reader(0)
            stop.set()

    with contextlib.suppress(PermissionError):  # a plain file has no other end
        loop.add_reader(0, readable)


if __name__ == "__main__":
    sys.exit(main())
