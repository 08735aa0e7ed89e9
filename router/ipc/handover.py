"""What a frontend and the new process that takes over from it say to each other, with the descriptors they pass.

    new                                        old
     |------------- connects ------------------>|   its user is looked at: the same, or nothing is said
     |<------------ About ----------------------|
     |------------- Ask ----------------------->|
     |<------------ Offer, Host * n ------------|   sockets, locks; processes, life lines, logs
     |   joins every host, makes all ready      |   serves on
     |------------- Ready --------------------->|
     |<------------ Go -------------------------|   all is as it was offered
     |------------- Taken --------------------->|   the point of no return
     |   serves                                 |   accepts no more, gives the hosts up
     |<------------ Released -------------------|   running answers finish
     |<------------ Released -------------------|   the connection ends with the process

Either may say Refused, with why, before Taken: then all stays with the old one. JSON in the packets of a Unix socket;
fields are appended, others than these are ignored. Knows nothing of what the descriptors are.
"""

import contextlib
import os
import socket
from array import array
from struct import Struct
from typing import Any, Final, TypeAlias

import msgspec

from router.errors import ProtocolError
from router.ipc.messages import PROTOCOL_VERSION
from router.version import __version__

#: Of this file's messages; another one is refused.
HANDOVER_VERSION: Final = 1
#: In a frontend's runtime folder.
SOCKET_NAME: Final = "takeover.sock"
_MOST_BYTES = 1 << 20
_CONTROL_BYTES = socket.CMSG_LEN(64 * array("i").itemsize)  # of 64 descriptors
_credentials = Struct("3i")  # process, user, group


class About(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Who serves."""

    handover: int = HANDOVER_VERSION
    frames: int = PROTOCOL_VERSION  #: the protocol that its engine hosts speak
    release: str = __version__
    pid: int
    address: str  #: of the public port as configured


class Ask(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    handover: int = HANDOVER_VERSION
    frames: int = PROTOCOL_VERSION
    release: str = __version__
    secret: str = ""  #: that of the engine hosts, where one is configured
    mps: bool = False  #: it would end the engines' MPS control daemon; an older release knows of none


class Held(msgspec.Struct, frozen=True, kw_only=True):
    """One engine of the running pool, as it was configured."""

    name: str
    engine_args: dict[str, Any] = {}
    devices: list[int | str] | str | None = None  #: where it was placed
    settings: dict[str, Any] = {}  #: others that a running engine cannot change, where they are not the default


class Daemon(msgspec.Struct, frozen=True, kw_only=True):
    """The MPS control daemon that the engines use."""

    pipes: str  #: its pipe directory
    logs: str  #: empty: not known
    started: bool  #: by us, and to be ended at the end


class Offer(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """All but the hosts. `files`: what the descriptors are, in their order."""

    files: tuple[str, ...]
    admin: str  #: its address as configured
    folder: str  #: the runtime folder
    made: bool  #: by us, and to be removed at the end
    engines: tuple[Held, ...]
    hosts: int  #: that follow
    drained: tuple[str, ...] = ()  #: members that are to get no new requests
    mps: Daemon | None = None


class Host(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A running engine host. Its descriptors: a pidfd, the write end of its standard input, its log."""

    name: str
    pid: int
    socket: str
    secret: str
    log_start: int  #: in bytes, where the host's own words begin
    phase: str = "ready"
    answers_as: str = ""  #: the model of its Hello; empty: `name`
    label: str = ""  #: `member` in its metrics; empty: `answers_as`


class Ready(msgspec.Struct, frozen=True, tag=True):
    """The new process has joined all hosts and could serve."""


class Go(msgspec.Struct, frozen=True, tag=True):
    """The running server agrees: all is still as it was offered."""


class Taken(msgspec.Struct, frozen=True, tag=True):
    """The new process serves from now on."""


class Released(msgspec.Struct, frozen=True, tag=True):
    """The old process starts, restarts and ends no engine any more. A descriptor, if any: answers that clients
    may rate. It is sent once more as that process ends, with those that have ended since."""

    journal: str = ""  #: the folder in which the answers stand


class Refused(msgspec.Struct, frozen=True, tag=True):
    why: str


Message: TypeAlias = About | Ask | Offer | Host | Ready | Go | Taken | Released | Refused
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Message).decode


class Line:
    """One end. Calls block, within `timeout_s`; `close`, from another thread too, ends them."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        process, user, _ = _credentials.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _credentials.size))
        self.peer_pid: int = process  #: of who connected, or listened
        self.of_our_user: bool = user == os.getuid()

    def fileno(self) -> int:
        return self._end.fileno()

    def send(self, message: Message, files: tuple[int, ...] = (), timeout_s: float = 10.0) -> None:
        """Raises `OSError`, when the other is gone too."""
        self._end.settimeout(timeout_s)
        if files:
            socket.send_fds(self._end, [_encode(message)], files, socket.MSG_NOSIGNAL)
        else:
            self._end.send(_encode(message), socket.MSG_NOSIGNAL)

    def receive(self, timeout_s: float) -> tuple[Message | None, list[int]]:
        """The next message, None when the other is gone; and its descriptors, which are not inherited. Raises
        `TimeoutError`, `ProtocolError`."""
        self._end.settimeout(timeout_s)
        try:
            # Not `socket.recv_fds`, which ignores its flags: an engine that is started would inherit what comes.
            data, control, flags, _ = self._end.recvmsg(_MOST_BYTES, _CONTROL_BYTES, socket.MSG_CMSG_CLOEXEC)
        except ConnectionError:
            return None, []
        files = _files_of(control)
        if not data:
            return None, []
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            close_all(files)
            raise ProtocolError("a message of a takeover that is too long")
        try:
            return _decode(data), files
        except msgspec.DecodeError as error:
            close_all(files)
            raise ProtocolError(f"expected a message of a takeover: {error}") from error

    def last_word(self) -> Message | None:
        """End it. What the other had sent before that and was not read yet: it knows that anything later was not."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        try:
            message, files = self.receive(0.0)
        except (OSError, ProtocolError):
            return None
        close_all(files)
        return message

    def close(self) -> None:
        """Idempotent."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)
        self._end.close()


def _files_of(control: list[tuple[int, int, bytes]]) -> list[int]:
    files = array("i")
    for level, kind, data in control:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            files.frombytes(data[: len(data) - len(data) % files.itemsize])
    return files.tolist()


def dial(path: str, timeout_s: float = 5.0) -> Line:
    """Raises `OSError`: nobody listens."""
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    end.settimeout(timeout_s)
    try:
        end.connect(path)
        return Line(end)
    except BaseException:
        end.close()
        raise


def close_all(files: "list[int] | tuple[int, ...]") -> None:
    for file in files:
        with contextlib.suppress(OSError):
            os.close(file)
