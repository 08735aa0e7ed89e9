"""A new process as a running server hears it in a takeover, in this process and step by step: what no real one says,
and what one that dies at that moment has said."""

from pathlib import Path
from typing import Any

from router.ipc.handover import (
    SOCKET_NAME,
    About,
    Ask,
    Host,
    Line,
    Message,
    Offer,
    close_all,
    dial,
)
from tests.conftest import PATIENCE_S


class Usurper:
    """`step` goes one step further; `end` closes its end, as the end of a process does."""

    def __init__(self, server: Any) -> None:
        (folder,) = (each for each in Path(server.folder.name).iterdir() if (each / SOCKET_NAME).exists())
        self.line: Line = dial(str(folder / SOCKET_NAME))
        self.files: list[int] = []
        self.hosts: list[Host] = []

    def hear(self) -> Message | None:
        message, files = self.line.receive(PATIENCE_S)
        self.files += files
        return message

    def ask(self, **fields: Any) -> Message | None:
        """The answer: an `Offer`, whose hosts are heard too, or why not."""
        assert isinstance(self.hear(), About)
        self.line.send(Ask(**fields))
        answer = self.hear()
        if isinstance(answer, Offer):
            for _ in range(answer.hosts):
                host = self.hear()
                assert isinstance(host, Host)
                self.hosts.append(host)
        return answer

    def say(self, message: Message) -> None:
        self.line.send(message)

    def say_raw(self, text: str) -> None:
        self.line._end.send(text.encode())

    def end(self) -> None:
        self.line.close()
        close_all(self.files)
        self.files.clear()
