"""Keeps the last lines of standard error of this process and its children, to report why an engine did not start.

vLLM logs the root cause in a child process and raises only `See root cause above` in this one, among
many other lines.
"""

import os
import re
import threading
import time
from collections import deque

from router.errors import HeadgateError

_KEPT_LINES = 400
_SETTLE_S = 0.2
_SAID = "headgate-host: WARNING the log could not be written:"
_ERROR = re.compile(r"(?:^|[\s\]])((?:[A-Za-z_][\w]*\.)*[A-Z]\w*(?:Error|Exception|Exit|Interrupt)): (\S.*)$")
_OFFLINE = "outgoing traffic has been disabled"  #: Hugging Face's words, which go on with an argument of Python's
_NOT_HERE = (
    "the model is not in Hugging Face's cache on this machine, and HF_HUB_OFFLINE forbids to fetch it: unset it, or "
    "give a folder as `model`"
)
#: Errors that only say that something else went wrong.
_HOLLOW = ("root cause", "See stack trace", "EngineDeadError", "EngineGenerateError", "initialization failed")


class LastWords:
    """Copies file descriptors 1 and 2 through a pipe to the real standard error and keeps the tail."""

    def __init__(self) -> None:
        self._out = os.dup(2)
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._partial = b""
        self._missing = 0  # bytes that could not be written since it was last said
        read, write = os.pipe()
        os.dup2(write, 1)
        os.dup2(write, 2)
        os.close(write)
        threading.Thread(target=self._copy, args=(read,), name="last-words", daemon=True).start()

    def lines(self) -> list[str]:
        return list(self._lines)

    def settled(self) -> list[str]:
        """The same, after what children wrote a moment ago has come through."""
        time.sleep(_SETTLE_S)
        return self.lines()

    def say(self, line: str) -> None:
        """Write a line of our own, past the pipe: it is out when this returns, if it can be written at all."""
        self._write(f"{line}\n".encode(errors="replace"))

    def _copy(self, read: int) -> None:
        """Drains the pipe to the end, whatever becomes of the copy: an engine that prints into a full pipe stands."""
        while data := os.read(read, 65536):
            self._write(data)
            *whole, self._partial = (self._partial + data).split(b"\n")
            self._partial = self._partial[-65536:]
            self._lines.extend(line.decode(errors="replace") for line in whole)

    def _write(self, data: bytes) -> None:
        """As much of `data` as can be written. What is missing is said once in the lines kept, and in the log as soon
        as it can be written again."""
        try:
            if self._missing:
                os.write(self._out, f"{_SAID} {self._missing} bytes are missing here\n".encode())
                self._missing = 0
            while data:
                data = data[os.write(self._out, data) :]
        except OSError as error:
            if not self._missing:
                self._lines.append(f"{_SAID} {error.strerror or error}")
            self._missing += len(data)


def root_cause(error: BaseException, lines: list[str]) -> str:
    """One line: why the engine failed. The error itself unless it is hollow, else the last telling error printed."""
    own = _own(error)
    if _OFFLINE in own:
        return _NOT_HERE
    # Our own errors name what is to blame, also where they quote one of vLLM's that names nothing.
    if own and (isinstance(error, HeadgateError) or not _hollow(f"{type(error).__name__}: {own}")):
        return own
    return last_error(lines) or own or type(error).__name__


def last_error(lines: list[str]) -> str:
    """The last telling error among printed lines, or empty."""
    for line in reversed(lines):
        match = _ERROR.search(line)
        if match and not _hollow(line):
            return f"{match.group(1).rpartition('.')[2]}: {match.group(2).strip()}"
    return ""


def _own(error: BaseException) -> str:
    """The error's message on one line; pydantic's report shrinks to what is wrong."""
    details = getattr(error, "errors", None)
    if callable(details):
        reasons = [str(item.get("msg", "")).removeprefix("Value error, ") for item in details()]
        if any(reasons):
            return "; ".join(filter(None, reasons))
    text = " ".join(str(error).split())
    return (
        text
        if isinstance(error, SystemExit | ValueError | HeadgateError) and text
        else f"{type(error).__name__}: {text}"
    )


def _hollow(text: str) -> bool:
    return any(mark in text for mark in _HOLLOW)
